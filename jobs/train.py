"""Stage train: the student learns from gold and from what a trusted LLM said on earlier nights.

The same gold, answers, taxonomy and settings train nothing anew, unless the student's files are damaged.

Calibration gold is learned from too: probabilities, thresholds and the comparison with the LLM use predictions that
leave the conversation out. On the sample chats that is worth three points of F1 over keeping it apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InputError
from jobs.gold_reader import gold_conversations
from jobs.labelling.lessons import llm_lessons
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.student.model import Student
from jobs.student.store import is_whole
from jobs.student.training import training_key
from jobs.students import assign_student, embedder_of, student_folder
from jobs.taxonomies.store import approved_taxonomy


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Which student a night uses."""

    key: str
    path: Path
    trained: bool
    train_conversations: int
    calibration_conversations: int
    lessons: int


def train(tables: Tables, settings: Settings, ds: str, say: Callable[[str], None] = print) -> TrainResult:
    """Train on the train and calibration splits; test gold is never read into the fit.

    Raises:
        InputError: there is no gold for training or calibration.
    """
    taxonomy = approved_taxonomy(settings, ds)
    gold = gold_conversations(tables, ds)
    fit = [c for c in gold if c.split == "train"]
    calibration = [c for c in gold if c.split == "calibration"]
    if not fit or not calibration:
        raise InputError(f"gold of {ds} has {len(fit)} train and {len(calibration)} calibration conversations")
    lessons = llm_lessons(tables, settings, ds, taxonomy)
    embedder = embedder_of(settings)
    key = training_key(
        fit + calibration,
        (),
        taxonomy.tag_ids,
        taxonomy,
        settings.student,
        embedding_model=embedder.name,
        lessons=lessons,
    )[:16]
    folder = student_folder(settings, key)
    trained = not is_whole(folder)
    if trained:
        student = Student.fit(
            fit + calibration,
            taxonomy.tag_ids,
            taxonomy=taxonomy,
            settings=settings.student,
            embedder=embedder,
            progress=_lines(say),
            lessons=lessons,
        )
        student.save(folder)
    assign_student(settings, ds, key)
    return TrainResult(key, folder, trained, len(fit), len(calibration), len(lessons))


def _lines(say: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """Progress as a line at every fifth of the way: an Airflow log has no bars."""
    last: dict[str, int] = {}

    def report(step: str, done: int, total: int) -> None:
        fifth = 5 * done // max(total, 1)
        if last.get(step) != fifth:
            last[step] = fifth
            say(f"train: {step} {done} of {total}")

    return report
