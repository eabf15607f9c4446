"""A server process that outlives its starter: known by pid and start time, ended with its whole process group."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_TERM_SECONDS = 20.0
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """What the state file remembers. `started` is the kernel's start time (clock ticks since boot) of `pid`."""

    pid: int
    started: int
    base_url: str
    served_model_name: str
    profile: str
    log: str

    def is_alive(self) -> bool:
        """Whether that very process still runs: a reused pid has another start time."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start time of a live process, in clock ticks since boot (field 22 of /proc/PID/stat); None where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def save_state(path: Path, process: ServerProcess) -> None:
    """Write the state file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(process)), encoding="utf-8")
    draft.replace(path)


def load_state(path: Path) -> ServerProcess | None:
    """The server that the state file remembers; None where there is none, or the file cannot be read."""
    try:
        return ServerProcess(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _group_members(group: int) -> bool:
    """Whether a process of this group still runs (zombies do not count: nobody may ever reap them)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            text = stat.read_text(encoding="utf-8", errors="replace")
            fields = text[text.rindex(")") + 2 :].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                return True
    return False


def _wait_gone(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)
        if not _group_members(group):
            return True
        time.sleep(0.1)
    return not _group_members(group)


def stop_group(process: ServerProcess) -> None:
    """End the server and its workers: SIGTERM to the group it leads, SIGKILL for what is left 20 s later.

    Does nothing where the leader is gone and its pid may be somebody else's.
    """
    if not process.is_alive():
        return
    for sign, patience in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        if _wait_gone(process.pid, patience):
            return
