"""A model on disk: one JSON document, one NumPy archive, and a manifest with their SHA-256. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.errors import InputError

CODE_VERSION = "4"
"""Raise it whenever the same data would give another model or other files: a key holds it, and so does a document."""

DOCUMENT, ARRAYS, MANIFEST = "student.json", "arrays.npz", "manifest.json"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, document: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write both parts, then the manifest: a folder without one is not a whole model. The document says `version`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / DOCUMENT).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    np.savez(folder / ARRAYS, allow_pickle=False, **arrays)
    manifest = {name: _sha256(folder / name) for name in (DOCUMENT, ARRAYS)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a model, both parts as they were written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(manifest[name] == _sha256(folder / name) for name in (DOCUMENT, ARRAYS))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _document(folder: Path) -> dict[str, Any]:
    """The JSON document, written by this very code."""
    document: Any = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("version") != CODE_VERSION:
        raise InputError(f"{folder}: stored by other code than this; train the student again")
    return dict(document)


def told_by(folder: Path) -> tuple[tuple[str, ...], str]:
    """The tags that the model of this folder tells, in its order, and the name of its sentence embeddings.

    Raises:
        InputError: there is no such model, or other code wrote it.
    """
    try:
        document = _document(folder)
        return tuple(document["tags"]), str(document["embedding_model"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: no usable student model ({error}); train the student again") from error


def check_embeddings(folder: Path, made_with: str, here: str) -> None:
    """Raise InputError where the model of this folder needs other sentence embeddings than there are here."""
    if made_with != here:
        raise InputError(f"{folder}: made with {made_with}, here is {here}; train again")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read both parts after checking their hashes.

    Raises:
        InputError: a file is missing, unreadable, or not what the manifest says, or other code wrote it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in (DOCUMENT, ARRAYS):
            if _sha256(folder / name) != manifest[name]:
                raise InputError(f"{folder / name}: changed since it was written; train the student again")
        document = _document(folder)
        with np.load(folder / ARRAYS, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: no usable student model ({error}); train the student again") from error
    return document, arrays
