"""Which trained student a night uses: folders by key, one pointer a night."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InputError
from jobs.settings import EmbeddingSettings, Settings
from jobs.storage import check_ds
from jobs.student.embed import Embedder
from jobs.student.endpoint import engine_of
from jobs.student.store import check_embeddings, is_whole, told_by


def student_folder(settings: Settings, key: str) -> Path:
    """Where the student of this key is saved."""
    return settings.var_dir / "models" / "student" / key


@dataclass(frozen=True, slots=True)
class EmbeddingSource:
    """What an embedder is made of, small enough to travel to Spark's workers: its cache and the engine's settings."""

    cache: Path
    settings: EmbeddingSettings

    def embedder(self, threads: int) -> Embedder:
        """An embedder that computes `threads` batches at once.

        Raises:
            InputError: there is no such embedding profile.
        """
        return Embedder(self.cache, threads, engine_of(self.settings))


def embedding_source(settings: Settings) -> EmbeddingSource:
    """Sentence embeddings as the settings say, kept by content: a text is embedded once, ever."""
    return EmbeddingSource(settings.var_dir / "cache" / "embeddings.sqlite", settings.embeddings)


def embedder_of(settings: Settings) -> Embedder:
    """The embedder of the settings, for this process.

    Raises:
        InputError: there is no such embedding profile.
    """
    return embedding_source(settings).embedder(settings.student.threads)


def induction_embedder(settings: Settings) -> Embedder:
    """The embedder for sampling and induction: `embeddings.induction_profile`, where there is one.

    Raises:
        InputError: there is no such embedding profile.
    """
    profile = settings.embeddings.induction_profile or settings.embeddings.profile
    embeddings = settings.embeddings.model_copy(update={"profile": profile})
    return embedder_of(settings.model_copy(update={"embeddings": embeddings}))


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


def student_for(settings: Settings, ds: str, tags: Sequence[str]) -> tuple[str, Path]:
    """As `student_of_night`, of a student that tells just these tags in this order: its views are read by place.

    Raises:
        InputError: the night has no student, or one that learned by another version of the taxonomy, was stored by
            other code, is damaged, or needs other sentence embeddings than the settings': told here, and not by every
            one of Spark's tasks.
    """
    key, folder = student_of_night(settings, ds)
    told, embeddings = told_by(folder)
    check_embeddings(folder, embeddings, engine_of(settings.embeddings).name)
    if not is_whole(folder):
        raise InputError(f"{folder}: not as it was written; train the student again")
    if told != tuple(tags):
        raise InputError(
            f"the student of {ds} learned other tags than those in force: a version of the taxonomy was approved "
            f"since. Run `python -m jobs gold --ds {ds}` and `train --ds {ds}` again (in Airflow: clear `gold` with "
            "what comes after it)"
        )
    return key, folder
