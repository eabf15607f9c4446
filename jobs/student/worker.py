"""Learning in a process of the LLM environment, which alone has PyTorch: a folder with a job, and its progress."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from jobs.errors import InputError
from jobs.settings import PROJECT

PYTHON = PROJECT / ".venv-llm" / "bin" / "python"
MODEL = "model.onnx"

Steps = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


def check_environment(what: str) -> None:
    """Raise InputError where the LLM environment is missing; `what` needs it."""
    if not PYTHON.is_file():
        raise InputError(f"{what} needs the environment .venv-llm, which has PyTorch; run `make setup`")


def key_of(script: Path, job: dict[str, Any], texts: Any, labels: bytes = b"") -> str:
    """What names that which the script learns: its code and that of the encoder, `job` with its model, the texts."""
    digest = hashlib.sha256()
    for file in (script, *(script.with_name(name) for name in ("torch_encoder.py", "e5_file.py")), Path(job["base"])):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    digest.update(json.dumps([job | {"base": ""}, texts], ensure_ascii=False).encode())
    digest.update(labels)
    return digest.hexdigest()[:24]


def run_worker(script: Path, folder: Path, *, job: dict[str, Any], texts: Any, report: Steps) -> None:
    """Run the script on the folder, with `job.json` in it; it reads `texts` from its input and leaves `model.onnx`.

    What customers said is in a file without a name, which is gone when its last reader is, killed or not.

    Raises:
        InputError: the script failed; the message ends with its words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with (
        (folder / "errors.log").open("w", encoding="utf-8") as errors,
        TemporaryFile("w+", encoding="utf-8") as said,
    ):
        json.dump(texts, said, ensure_ascii=False)
        said.seek(0)
        line = [str(PYTHON), str(script), str(folder)]
        worker = subprocess.Popen(line, stdin=said, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8")
        try:
            for step in worker.stdout or ():
                found = json.loads(step)
                report(found["done"], found["steps"])
            failed = worker.wait()
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    if failed:
        cause = (folder / "errors.log").read_text(encoding="utf-8").strip().splitlines()[-3:]
        if failed < 0:  # by a signal: nobody but the kernel's log knows why
            cause.append("killed, perhaps for want of memory")
        raise InputError(f"learning failed (status {failed}): {' | '.join(cause)}")


def prune_models(folder: Path, most: int) -> None:
    """Remove all but those folders with a model that were touched last; one without is being learnt."""
    learnt = sorted(folder.glob(f"*/{MODEL}"), key=lambda file: file.parent.stat().st_mtime, reverse=True)
    for file in learnt[most:]:
        shutil.rmtree(file.parent)
