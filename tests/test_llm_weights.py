"""The demo's weights: pinned by hash, converted once, never used when a byte changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from jobs.errors import ServerError
from jobs.llm import weights
from jobs.llm.profiles import PROFILES, GgufWeights, ServingProfile, read_profile
from jobs.settings import Settings


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, ServingProfile, list[Path]]:
    """Settings and a profile whose GGUF is a small file; the list counts conversions."""
    package = tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "carrier"
    package.mkdir(parents=True)
    (package / "m.gguf").write_bytes(b"GGUF")
    source = GgufWeights(
        package="carrier", file="m.gguf", sha256=hashlib.sha256(b"GGUF").hexdigest(), converted="small"
    )
    done: list[Path] = []

    def convert(source: Path, target: Path, log: Path) -> None:
        done.append(source)
        (target / "model.safetensors").write_bytes(source.read_bytes() * 10)

    monkeypatch.setattr(weights, "_convert", convert)
    original = weights.find_source
    monkeypatch.setattr(weights, "find_source", lambda wanted: original(wanted, tmp_path / "venv"))
    profile = read_profile(PROFILES / "cpu-smollm2.yaml").model_copy(update={"weights": source})
    return Settings(var=tmp_path / "var"), profile, done


def test_converted_once_and_again_when_a_byte_changed(pinned: tuple[Settings, ServingProfile, list[Path]]) -> None:
    settings, profile, done = pinned
    folder = Path(weights.ensure_weights(settings, profile, print))
    assert weights.ensure_weights(settings, profile, print) == str(folder) and len(done) == 1
    (folder / "model.safetensors").write_bytes(b"changed")
    weights.ensure_weights(settings, profile, print)
    assert len(done) == 2 and (folder / "model.safetensors").read_bytes() == b"GGUF" * 10
    assert json.loads((folder / "dongcha-manifest.json").read_text())["files"].keys() == {"model.safetensors"}
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["small"], "no temporary folder is left"


def test_failed_conversion_leaves_nothing(
    pinned: tuple[Settings, ServingProfile, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, profile, _ = pinned

    def broken(source: Path, target: Path, log: Path) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise ServerError("converting failed")

    monkeypatch.setattr(weights, "_convert", broken)
    with pytest.raises(ServerError):
        weights.ensure_weights(settings, profile, print)
    assert [path for path in (settings.var_dir / "models").iterdir() if path.is_dir()] == []


def test_another_source_file_is_refused(pinned: tuple[Settings, ServingProfile, list[Path]]) -> None:
    settings, profile, done = pinned
    assert profile.weights is not None
    other = profile.model_copy(update={"weights": profile.weights.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(ServerError, match="pins 0000"):
        weights.ensure_weights(settings, other, print)
    gone = profile.model_copy(update={"weights": profile.weights.model_copy(update={"file": "gone.gguf"})})
    with pytest.raises(ServerError, match="make setup"):
        weights.ensure_weights(settings, gone, print)
    assert not done
