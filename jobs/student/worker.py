"""Learning in a process of the LLM environment, which alone has PyTorch: a folder with a job, and its progress."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.errors import InputError
from jobs.settings import PROJECT

PYTHON = PROJECT / ".venv-llm" / "bin" / "python"
MODEL, TEXTS = "model.onnx", "texts.json"

Steps = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


def check_environment(what: str) -> None:
    """Raise InputError where the LLM environment is missing; `what` needs it."""
    if not PYTHON.is_file():
        raise InputError(f"{what} needs the environment .venv-llm, which has PyTorch; run `make setup`")


def run_worker(script: Path, folder: Path, *, job: dict[str, Any], texts: Any, report: Steps) -> None:
    """Run the script on the folder, with `job.json` and `texts.json` in it; it leaves `model.onnx` there.

    Raises:
        InputError: the script failed; the message ends with its words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / TEXTS).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    with (folder / "errors.log").open("w", encoding="utf-8") as errors:
        worker = subprocess.Popen(
            [str(PYTHON), str(script), str(folder)], stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
        )
        try:
            for line in worker.stdout or ():
                found = json.loads(line)
                report(found["done"], found["steps"])
            failed = worker.wait()
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            # Texts stay no longer than they are needed.
            (folder / TEXTS).unlink(missing_ok=True)
    if failed:
        said = (folder / "errors.log").read_text(encoding="utf-8").strip().splitlines()[-3:]
        raise InputError(f"tuning the encoder failed (status {failed}): {' | '.join(said)}")
