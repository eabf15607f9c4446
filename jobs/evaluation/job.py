"""What every labeller of `evaluate` is handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.conversation import Conversation
from jobs.llm.profiles import ServingProfile
from jobs.settings import Settings
from jobs.student.embed import Embedder
from jobs.student.training import StageProgress
from jobs.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Job:
    """Learn `tags` from `train` and tag `test`, whose labels have been taken off.

    `profile` says which LLM is asked; None: the one of the settings.
    """

    train: Sequence[Conversation]
    test: Sequence[Conversation]
    tags: tuple[str, ...]
    taxonomy: Taxonomy | None
    settings: Settings
    embedder: Embedder
    progress: StageProgress
    profile: ServingProfile | None = None
