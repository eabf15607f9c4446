"""`vllm run-batch` over the requests that lie in files: one engine start for a file's worth, answers beside them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterator
from itertools import count
from pathlib import Path

from jobs.errors import ServerError
from jobs.llm.offline import Collected, OfflineFolder, known_answer
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
    return OfflineFolder(settings.var_dir / "llm" / "offline", check_ds(ds))


def said(found: Collected, folder: OfflineFolder) -> str:
    """One line about a night."""
    refused = "".join(f"; {count} lines refused: {reason}" for reason, count in sorted(found.rejected.items()))
    all_nights = f"{found.requests} requests of all nights, {found.answered} answered"
    return f"{found.open} open for {folder.ds} in {folder.folder} ({all_nights}){refused}"


def batch_command(profile: ServingProfile, model: str, requests: Path, answers: Path) -> list[str]:
    """The command line that answers one file."""
    files = ["-i", str(requests), "-o", str(answers)]
    return engine_command(profile, ["run-batch", *files, "--model", model], leave_out=SERVER_ONLY)


def _given_out(folder: OfflineFolder) -> dict[str, Path]:
    """Requests (ids) in files for other machines, of all nights, of which nothing has come back; the file of each."""
    found: dict[str, Path] = {}
    with folder.reading() as index:
        for path in sorted(folder.root.glob("*/runs/*.in.jsonl")):
            if _log(path).exists():  # it was run here
                continue
            ids: list[str] = []
            for line in path.open(encoding="utf-8"):
                ids.append(json.loads(line)["custom_id"])
                if known_answer(index, ids[-1])[1] is not None:
                    break
            else:
                found |= dict.fromkeys(ids, path)
    return found


def _input_files(folder: OfflineFolder, most: int, leave_out: Collection[str]) -> Iterator[tuple[Path, Path, Path]]:
    """(requests, answers while they are written, answers) of each run to make, of all open ones but `leave_out`."""
    runs, answers = folder.folder / "runs", folder.folder / "answers"
    for place in (runs, answers):
        place.mkdir(parents=True, exist_ok=True)
    taken = {*runs.iterdir(), *answers.iterdir()}
    numbers = (f"{number:05}" for number in count(1))
    # One by one: an input file that lies there and was not run here counts as given out.
    for lines in folder.open_requests(most, leave_out):
        name = next(n for n in numbers if not {runs / f"{n}.in.jsonl", answers / f"{n}.jsonl"} & taken)
        source = runs / f"{name}.in.jsonl"
        source.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        yield source, runs / f"{name}.out.jsonl", answers / f"{name}.jsonl"


def _log(source: Path) -> Path:
    return source.with_suffix(".log")


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
    """Answer what night `ds` waits for on this machine, at most `most` requests a start of the engine.

    What a killed run had answered is lost with its file, no more. With `only_files`, the input files are written and
    the command lines said, for another machine: its answers belong into `answers/`. What another such file holds, of
    whatever night, is left out until that file's answers come or it is deleted.

    Raises:
        ServerError: vLLM is missing or failed.
    """
    profile, folder = load_profile(settings), offline_folder(settings, ds)
    found = folder.collect()
    say(said(found, folder))
    if only_files:
        _give_out(profile, folder, most, say)
        return found
    model = ensure_weights(settings, profile, say)
    for source, draft, answers in _input_files(folder, most, ()):
        say(f"vllm run-batch: {source.name}, log {_log(source)}")
        _run(profile, batch_command(profile, model, source, draft), _log(source))
        draft.replace(answers)
        found = folder.collect()
        say(said(found, folder))
    return found


def _give_out(profile: ServingProfile, folder: OfflineFolder, most: int, say: Say) -> None:
    given = _given_out(folder)
    for path in sorted(set(given.values())):
        say(f"given out before, no answers yet: {path} (delete it to have its requests given out again)")
    for source, _, answers in _input_files(folder, most, given):
        say(shlex.join(batch_command(profile, profile.model, source, answers)))
