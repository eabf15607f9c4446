"""Stage train: the student learns from gold; the same gold, taxonomy and code train nothing anew."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.gold_reader import gold_conversations
from jobs.settings import PROJECT, Settings
from jobs.storage import Tables
from jobs.student.model import Student
from jobs.students import assign_student, student_folder
from jobs.taxonomy import Taxonomy, load_taxonomy

_CODE = ("jobs/student", "jobs/train.py")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Which student a night uses."""

    key: str
    path: Path
    trained: bool
    train_conversations: int
    calibration_conversations: int


def _key(gold: list[Conversation], taxonomy: Taxonomy, settings: Settings) -> str:
    digest = hashlib.sha256()
    for conversation in gold:
        parts = [conversation.content_hash, conversation.split, conversation.labels, conversation.turn_labels]
        digest.update(json.dumps(parts).encode())
    digest.update(taxonomy.content_hash.encode())
    digest.update(settings.student.model_dump_json().encode())
    for place in _CODE:
        path = PROJECT / place
        for file in [path] if path.is_file() else sorted(path.glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def train(tables: Tables, settings: Settings, ds: str) -> TrainResult:
    """Train on the train split, calibrate on the calibration split; test gold is never read into the fit.

    Raises:
        InputError: there is no gold for training or calibration.
    """
    taxonomy = load_taxonomy(settings.resolve(settings.label.taxonomy))
    gold = gold_conversations(tables, ds)
    fit = [c for c in gold if c.split == "train"]
    calibration = [c for c in gold if c.split == "calibration"]
    if not fit or not calibration:
        raise InputError(f"gold of {ds} has {len(fit)} train and {len(calibration)} calibration conversations")
    key = _key(fit + calibration, taxonomy, settings)
    folder = student_folder(settings, key)
    trained = not (folder / "manifest.json").is_file()
    if trained:
        student = Student.fit(
            fit, taxonomy.tag_ids, taxonomy=taxonomy, settings=settings.student, calibration=calibration
        )
        student.save(folder)
    assign_student(settings, ds, key)
    return TrainResult(key, folder, trained, len(fit), len(calibration))
