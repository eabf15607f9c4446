"""Questions about conversations as questions about their windows, and the windows' answers as the conversation's.

A conversation that fits the model's context is one window under its own hash; only longer ones are cut, see
`jobs/llm/windows.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.arrow_tasks import ArrowTask, map_in_arrow
from jobs.conversation import Conversation, Turn
from jobs.labelling.questions import UNUSABLE
from jobs.llm.answers import Evidence
from jobs.llm.labelling import LabelPrompt
from jobs.llm.merging import merge_evidence
from jobs.llm.rendering import LINE_TOKENS, most_tokens_a_char
from jobs.llm.windows import Window

_NAMES = ("conversation_id", "conversation_ds")
_WINDOWS = pa.schema([("content_hash", pa.string()), ("window_hash", pa.string()), ("windows", pa.int32())])


def conversation_of(row: Mapping[str, Any], content: str = "content_hash") -> Conversation:
    """A row with `turns` as a conversation that is named after its content."""
    return Conversation(row[content], tuple(Turn(t["speaker"], t["text"]) for t in row["turns"]))


def _splitter(prompt: LabelPrompt) -> ArrowTask:
    def split(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = []
            for row in batch.to_pylist():
                found = prompt.windows(conversation_of(row))
                base = {"content_hash": row["content_hash"], "windows": len(found)}
                rows += [base | {"window_hash": window.content_hash} for window in found]
            yield pa.RecordBatch.from_pylist(rows, schema=_WINDOWS)

    return split


def _most_tokens(prompt: LabelPrompt) -> Column:
    """What `turns` can take at most: no rendering makes a text longer."""
    each = most_tokens_a_char(prompt.profile.tokens_per_wide_char)
    return F.aggregate("turns", F.lit(0.0), lambda total, turn: total + F.length(turn["text"]) * each + LINE_TOKENS)


def windowed(questions: DataFrame, texts: DataFrame, prompt: LabelPrompt) -> DataFrame:
    """Questions (content_hash, tag_id) about the conversations `texts` (content_hash, turns), window by window.

    Returns:
        conversation_hash, content_hash (of the window), windows (how many its conversation has), tag_id.
    """
    # Few are long: only they are rendered, and Spark's own length says which they may be.
    long = texts.where(_most_tokens(prompt) > prompt.budget).select("content_hash", "turns")
    long = long.dropDuplicates(["content_hash"]).join(questions, "content_hash", "left_semi")
    cut = map_in_arrow(long, _splitter(prompt), _WINDOWS)
    return questions.join(cut, "content_hash", "left").select(
        F.col("content_hash").alias("conversation_hash"),
        F.coalesce("window_hash", "content_hash").alias("content_hash"),
        F.coalesce("windows", F.lit(1)).alias("windows"),
        "tag_id",
    )


def with_texts(missing: DataFrame, texts: DataFrame) -> DataFrame:
    """What a request needs: conversation_hash, conversation_id, conversation_ds (of one that has this content), turns,
    and `wanted`, the windows to ask about: hash to how often that came to nothing before.

    Args:
        missing: rows (conversation_hash, content_hash, failures).
        texts: rows (content_hash, conversation_id, conversation_ds, turns) of at least these conversations.
    """
    pairs = F.collect_list(F.struct("content_hash", "failures"))
    wanted = missing.groupBy("conversation_hash").agg(F.map_from_entries(pairs).alias("wanted"))
    unique = texts.dropDuplicates(["content_hash"])
    unique = unique.select(F.col("content_hash").alias("conversation_hash"), *_NAMES, "turns")
    return wanted.join(unique, "conversation_hash")


def wanted_windows(row: Mapping[str, Any], prompt: LabelPrompt) -> list[tuple[Window, int]]:
    """The windows that a row of `with_texts` asks about, each with how often that came to nothing before."""
    wanted = dict(row["wanted"])
    windows = prompt.windows(conversation_of(row, "conversation_hash"))
    return [(window, wanted[window.content_hash]) for window in windows if window.content_hash in wanted]


def merged(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers of one conversation's windows as its own, one a tag; see `jobs/llm/merging.py` for how.

    Entries have tag_id, verdict, confidence, evidence (turn, quote), unusable_nights, windows. A tag that nobody saw
    and about which some window was not asked yet is left out: it waits. Where an answer is unusable, the window that
    failed on the fewest nights counts: it is asked again.
    """
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_tag.setdefault(entry["tag_id"], []).append(dict(entry))
    return [found for some in by_tag.values() if (found := _merged_tag(some)) is not None]


def _merged_tag(some: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if some[0]["windows"] == 1:
        return some[0]
    of = {verdict: [e for e in some if e["verdict"] == verdict] for verdict in ("present", UNUSABLE, "cannot_tell")}
    if present := of["present"]:
        known = [e["confidence"] for e in present if e["confidence"] is not None]
        evidence = merge_evidence(Evidence(e["turn"], e["quote"]) for one in present for e in one["evidence"])
        return present[0] | {
            "confidence": max(known, default=None),
            "evidence": [{"turn": e.turn, "quote": e.quote} for e in evidence],
        }
    if len(some) < some[0]["windows"]:
        return None
    if failed := of[UNUSABLE]:
        return min(failed, key=lambda entry: int(entry["unusable_nights"]))
    return (of["cannot_tell"] or some)[0]
