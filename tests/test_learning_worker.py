"""Learning in a process of its own: what is told, what fails, what a kill leaves on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputError
from jobs.student import contrast, worker
from jobs.student.worker import MODEL, key_of, run_worker

SECRET = "my wallet was stolen"
READS = "import json, pathlib, sys, time; folder = pathlib.Path(sys.argv[1]); texts = json.load(sys.stdin.buffer); "
LEARNS = READS + "print(json.dumps({'done': len(texts), 'steps': 9}), flush=True); (folder / 'model.onnx').touch()"
STOPS = READS + "raise SystemExit('no memory left')"
WAITS = "import os; " + READS + "(folder / 'pid').write_text(str(os.getpid())); time.sleep(60)"
RUN = "from pathlib import Path; from jobs.student import worker; worker.PYTHON = Path({python!r}); " + (
    "worker.run_worker(Path({script!r}), Path({folder!r}), job={{}}, texts=[{said!r}], report=print)"
)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A worker's file with this text, run by this very Python."""
    monkeypatch.setattr(worker, "PYTHON", Path(sys.executable))

    def write(text: str) -> Path:
        file = tmp_path / "worker.py"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_texts_go_in_and_progress_comes_out(script: Callable[[str], Path], tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    run_worker(script(LEARNS), tmp_path / "a", job={}, texts=["卡丢了", SECRET], report=lambda *s: said.append(s))
    assert said == [(2, 9)] and (tmp_path / "a" / MODEL).is_file()


def test_a_failure_ends_with_the_worker_s_words(script: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"learning failed \(status 1\): no memory left"):
        run_worker(script(STOPS), tmp_path / "a", job={}, texts=[], report=print)


def test_a_worker_that_was_killed_is_said_to_be(script: Callable[[str], Path], tmp_path: Path) -> None:
    """The system kills what takes too much memory, and the worker has no words left."""
    dies = READS + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(InputError, match=r"learning failed \(status -9\): killed, .*memory"):
        run_worker(script(dies), tmp_path / "a", job={}, texts=[], report=print)


def test_what_is_kept_follows_settings_gold_and_code(script: Callable[[str], Path], tmp_path: Path) -> None:
    worker_file = script(LEARNS)
    files = [worker_file, *(tmp_path / name for name in ("torch_encoder.py", "e5_file.py", "base"))]
    for file in files[1:]:
        file.write_text("same", "utf-8")
    job = {"base": str(tmp_path / "base"), "seed": 0}
    first = key_of(worker_file, job, ["a", "b"], b"01")
    seen = [first, key_of(worker_file, job | {"seed": 1}, ["a", "b"], b"01")]
    seen += [key_of(worker_file, job, ["b", "a"], b"01"), key_of(worker_file, job, ["a", "b"], b"10")]
    for file in files:
        before = file.read_text("utf-8")
        file.write_text("other", "utf-8")
        seen.append(key_of(worker_file, job, ["a", "b"], b"01"))
        file.write_text(before, "utf-8")
    assert len(set(seen)) == len(seen) == 8
    moved = tmp_path / "moved"
    moved.write_text("same", "utf-8")
    assert key_of(worker_file, job | {"base": str(moved)}, ["a", "b"], b"01") == first


def test_a_kill_leaves_no_text_on_the_disk(script: Callable[[str], Path], tmp_path: Path) -> None:
    """kill -9 of the one that started the worker, which then has no time to clean up."""
    places = {"python": sys.executable, "script": str(script(WAITS)), "folder": str(tmp_path / "a"), "said": SECRET}
    pid, temporary = tmp_path / "a" / "pid", tmp_path / "temporary"
    temporary.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", RUN.format(**places)], env=os.environ | {"TMPDIR": str(temporary)})
    try:
        deadline = time.monotonic() + 60
        while not (pid.is_file() and pid.read_text()):
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.05)
        parent.kill()
        parent.wait()
        left = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert pid in left and not [file for file in left if SECRET.encode() in file.read_bytes()]
    finally:
        parent.kill()
        if pid.is_file():
            os.kill(int(pid.read_text()), signal.SIGKILL)


def test_only_the_encoders_used_last_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(script: Path, folder: Path, **_: Any) -> None:
        folder.mkdir(parents=True)
        (folder / MODEL).touch()

    monkeypatch.setattr(contrast, "run_worker", learn)
    monkeypatch.setattr(contrast, "check_environment", lambda what: None)
    texts = {tag: [f"{tag} {i}" for i in range(contrast.FEWEST)] for tag in ("a", "b")}
    made = []
    for seed in range(contrast.KEPT + 2):
        made.append(contrast.learn_encoder([texts], folder=tmp_path, seed=seed))
        os.utime(made[-1].parent, (seed, seed))
    assert [file.is_file() for file in made] == [False, False, *[True] * contrast.KEPT]
