"""Weights of the demo's model: converted once from the GGUF file that a package carries, checked by hash, cached."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobs.errors import ServerError
from jobs.llm.profiles import GgufWeights, ServingProfile
from jobs.settings import PROJECT, Settings

CONVERTER = Path(__file__).with_name("convert_gguf.py")
LLM_VENV = PROJECT / ".venv-llm"
_MANIFEST = "dongcha-manifest.json"
_TIMEOUT_SECONDS = 600


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def find_source(weights: GgufWeights, venv: Path = LLM_VENV) -> Path:
    """The GGUF file inside the server's environment, its hash checked against the profile's.

    Raises:
        ServerError: the environment or the file is missing, or the file is another one than the profile pins.
    """
    found = sorted(venv.glob(f"lib/python3*/site-packages/{weights.package}/{weights.file}"))
    if not found:
        raise ServerError(f"{weights.file} is not installed in {venv.name}; run `make setup`")
    digest = sha256_of(found[0])
    if digest != weights.sha256:
        raise ServerError(
            f"{weights.file}: SHA-256 is {digest}, the serving profile pins {weights.sha256}; "
            f"delete {venv.name} and run `make setup`"
        )
    return found[0]


def _wanted(weights: GgufWeights) -> dict[str, str]:
    return {"source_sha256": weights.sha256, "converter_sha256": sha256_of(CONVERTER)}


def is_valid(folder: Path, weights: GgufWeights) -> bool:
    """Whether `folder` holds this source's conversion by this converter, every file as it was written."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, str] = manifest["files"]
        made_from = {key: manifest[key] for key in _wanted(weights)}
        return made_from == _wanted(weights) and all(
            sha256_of(folder / name) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert(source: Path, target: Path, log: Path) -> None:
    python = LLM_VENV / "bin" / "python"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with log.open("wb") as out:
        try:
            done = subprocess.run(
                [python, CONVERTER, source, target],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"converting {source.name} took over {_TIMEOUT_SECONDS} s; see {log}") from error
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-1500:]
        raise ServerError(f"converting {source.name} failed (exit {done.returncode}); the end of {log}:\n{tail}")


def ensure_weights(settings: Settings, profile: ServingProfile, say: Callable[[str], None]) -> str:
    """What to hand `vllm serve` as model: the folder of the converted weights, or the profile's model name as it is.

    The conversion is written to a temporary folder beside its place and renamed: a folder that exists is whole. Two
    processes that need it at once convert it once.

    Raises:
        ServerError: see `find_source`; or the conversion failed, with the end of its log.
    """
    if profile.weights is None:
        return profile.model
    models = settings.var_dir / "models"
    models.mkdir(parents=True, exist_ok=True)
    with (models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = models / profile.weights.converted
        if not is_valid(folder, profile.weights):
            _make(folder, profile.weights, settings.var_dir / "llm" / "convert.log", say)
    return str(folder)


def _make(folder: Path, weights: GgufWeights, log: Path, say: Callable[[str], None]) -> None:
    source = find_source(weights)
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"converting {source.name} to Hugging Face format (once, about a minute)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        _convert(source, made, log)
        files = {path.name: sha256_of(path) for path in sorted(made.iterdir()) if path.is_file()}
        manifest = _wanted(weights) | {"files": files}
        (made / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    say(f"converted in {time.monotonic() - started:.0f} s")
