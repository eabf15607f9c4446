"""Benchmark: how many conversations a second the student labels on one core, with and without embeddings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from jobs.bench.measure import save_figures
from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.evaluation.progress import Bars
from jobs.settings import Settings
from jobs.student.embed import Embedder
from jobs.student.model import Student


def _rate(student: Student, test: Sequence[Conversation], bars: Bars) -> dict[str, float]:
    began = time.perf_counter()
    student.predict(test, bars)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "conversations_per_second": len(test) / seconds}


def bench_student(
    settings: Settings, train: Sequence[Conversation], test: Sequence[Conversation]
) -> tuple[dict[str, Any], Path]:
    """Learn from TRAIN on all cores, label TEST on one thread: by words alone, with embeddings, and those cached.

    Labelling starts with an empty embedding cache of its own, so `with_embeddings` computes every distinct turn of
    TEST, those that TRAIN holds too.

    Raises:
        InputError: TRAIN holds no labels.
    """
    tags = sorted({label for chat in train for label in chat.labels or ()})
    if not tags:
        raise InputError("TRAIN holds no labels: its lines need `labels`")
    found: dict[str, Any] = {"train": len(train), "test": len(test), "tags": len(tags)}
    with tempfile.TemporaryDirectory() as scratch, Bars() as bars:
        for name, embeddings in (("words_alone", False), ("with_embeddings", True)):
            chosen = settings.student.model_copy(update={"embeddings": embeddings})
            embedder = Embedder(Path(scratch) / "embeddings.sqlite", settings.student.threads)
            began = time.perf_counter()
            student = Student.fit(train, tags, taxonomy=None, settings=chosen, embedder=embedder, progress=bars)
            learning = time.perf_counter() - began
            folder = Path(scratch) / name
            student.save(folder)
            single = Student.load(folder, Embedder(folder / "embeddings.sqlite", threads=1))
            with threadpool_limits(limits=1):
                found[name] = {"learning_seconds": learning} | _rate(single, test, bars)
                if embeddings:
                    found["with_cached_embeddings"] = _rate(single, test, bars)
    return found, save_figures(settings, "student", found)
