"""`vllm run-batch` over the requests that lie in files: one engine start for a file's worth, answers beside them."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from jobs.errors import ServerError
from jobs.llm.offline import Collected, OfflineFolder
from jobs.llm.profiles import ServingProfile, load_profile
from jobs.llm.server import engine_command
from jobs.llm.weights import ensure_weights
from jobs.settings import Settings
from jobs.storage import check_ds

Say = Callable[[str], None]
SERVER_ONLY = ("disable-uvicorn-access-log",)
_LOG_LINES = 25


def offline_folder(settings: Settings, ds: str) -> OfflineFolder:
    """Where the requests of night `ds` and their answers lie."""
    return OfflineFolder(settings.var_dir / "llm" / "offline" / check_ds(ds), load_profile(settings).served_model_name)


def said(found: Collected, folder: Path) -> str:
    """One line about a folder."""
    refused = "".join(f"; {count} lines refused: {reason}" for reason, count in sorted(found.rejected.items()))
    return f"{found.requests} requests, {found.answered} answered, {found.open} open in {folder}{refused}"


def batch_command(profile: ServingProfile, model: str, requests: Path, answers: Path) -> list[str]:
    """The command line that answers one file."""
    files = ["-i", str(requests), "-o", str(answers)]
    return engine_command(profile, ["run-batch", *files, "--model", model], leave_out=SERVER_ONLY)


def _input_files(folder: OfflineFolder, most: int) -> list[tuple[Path, Path, Path]]:
    """(requests, answers while they are written, answers) of each run to make."""
    runs, answers = folder.folder / "runs", folder.folder / "answers"
    for place in (runs, answers):
        place.mkdir(parents=True, exist_ok=True)
    made = len(list(runs.glob("*.in.jsonl")))
    found = []
    for number, lines in enumerate(folder.open_requests(most), made + 1):
        source = runs / f"{number:05}.in.jsonl"
        source.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        found.append((source, runs / f"{number:05}.out.jsonl", answers / f"{number:05}.jsonl"))
    return found


def _run(profile: ServingProfile, command: list[str], log: Path) -> None:
    env = os.environ | profile.env | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with log.open("wb") as out:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
        )
    if done.returncode:
        end = "\n".join(line[:300] for line in log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])
        raise ServerError(f"vllm run-batch failed (exit {done.returncode}); the end of {log}:\n{end}")


def run_batch(settings: Settings, ds: str, *, most: int, say: Say, only_files: bool = False) -> Collected:
    """Answer the open requests of night `ds` on this machine, at most `most` a start of the engine.

    What a killed run had answered is lost with its file, no more. With `only_files`, the input files are written and
    the command lines said, for another machine: its answers belong into `answers/`.

    Raises:
        ServerError: vLLM is missing or failed.
    """
    profile, folder = load_profile(settings), offline_folder(settings, ds)
    found = folder.collect()
    say(said(found, folder.folder))
    model = profile.model if only_files else ensure_weights(settings, profile, say)
    for source, draft, answers in _input_files(folder, most):
        if only_files:
            say(shlex.join(batch_command(profile, model, source, answers)))
            continue
        say(f"vllm run-batch: {source.name}, log {source.with_suffix('.log')}")
        _run(profile, batch_command(profile, model, source, draft), source.with_suffix(".log"))
        draft.replace(answers)
        found = folder.collect()
        say(said(found, folder.folder))
    return found
