"""The student's pass: every conversation, in Spark tasks, each with the model loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame

from jobs.arrow_tasks import ArrowTask, map_in_arrow
from jobs.cascade import Bands
from jobs.conversation import Conversation, Turn
from jobs.student.model import Student
from jobs.students import EmbeddingSource

_VIEWS = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("conversation_ds", pa.string()),
        ("content_hash", pa.string()),
        ("probabilities", pa.list_(pa.float64())),
        ("decided", pa.list_(pa.bool_())),
        ("evidence_turns", pa.list_(pa.int32())),
        ("unsure", pa.list_(pa.bool_())),
    ]
)
_COLUMNS = ("conversation_id", "conversation_ds", "content_hash", "turns")


@lru_cache(maxsize=1)
def _student(folder: Path, embeddings: EmbeddingSource) -> Student:
    # One thread: Spark already runs a task on every core.
    return Student.load(folder, embeddings.embedder(threads=1))


def _viewer(folder: Path, embeddings: EmbeddingSource, bands: Bands, left_out: bool) -> ArrowTask:
    def view(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = batch.to_pylist()
            if not rows:
                continue
            conversations = [
                Conversation(row["conversation_id"], tuple(Turn(t["speaker"], t["text"]) for t in row["turns"]))
                for row in rows
            ]
            found = _student(folder, embeddings).predict(conversations, left_out=left_out)
            yield pa.RecordBatch.from_pydict(
                {
                    **{name: [row[name] for row in rows] for name in _COLUMNS[:3]},
                    "probabilities": found.probabilities.tolist(),
                    "decided": bands.decided(found.probabilities, found.decisions).tolist(),
                    "evidence_turns": found.evidence.tolist(),
                    "unsure": bands.unsure(found.probabilities).tolist(),
                },
                schema=_VIEWS,
            )

    return view


def student_views(
    conversations: DataFrame, folder: Path, embeddings: EmbeddingSource, bands: Bands, *, left_out: bool = False
) -> DataFrame:
    """What the student says.

    Args:
        conversations: columns conversation_id, conversation_ds, content_hash, turns.
        folder: a saved Student.
        embeddings: which, and where they are kept for all tasks of this machine.
        bands: where the student is sure, in the order of its tags.
        left_out: conversations that the student learned from are seen as if it had not: for gold.

    Returns:
        conversation_id, conversation_ds, content_hash and, parallel to the student's tags, probabilities, decided,
        evidence_turns (-1: none) and unsure.
    """
    return map_in_arrow(conversations.select(*_COLUMNS), _viewer(folder, embeddings, bands, left_out), _VIEWS)
