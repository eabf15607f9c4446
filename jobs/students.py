"""Which trained student a night uses: folders by key, one pointer a night."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.errors import InputError
from jobs.settings import Settings
from jobs.storage import check_ds


def student_folder(settings: Settings, key: str) -> Path:
    """Where the student of this key is saved."""
    return settings.var_dir / "models" / "student" / key


def embedding_cache(settings: Settings) -> Path:
    """Where sentence embeddings are kept by content: a text is embedded once, ever."""
    return settings.var_dir / "cache" / "embeddings.sqlite"


def _pointer(settings: Settings, ds: str) -> Path:
    return settings.var_dir / "models" / "student" / f"{check_ds(ds)}.json"


def assign_student(settings: Settings, ds: str, key: str) -> None:
    """Let night `ds` use the student of this key."""
    _pointer(settings, ds).parent.mkdir(parents=True, exist_ok=True)
    _pointer(settings, ds).write_text(json.dumps({"key": key}), "utf-8")


def student_of_night(settings: Settings, ds: str) -> tuple[str, Path]:
    """Key and folder of the student that night `ds` uses.

    Raises:
        InputError: the night has none.
    """
    pointer = _pointer(settings, ds)
    if not pointer.is_file():
        raise InputError(f"no student for {ds}: run `python -m jobs train --ds {ds}` first")
    key = json.loads(pointer.read_text("utf-8"))["key"]
    return key, student_folder(settings, key)
