"""Dead letters: what the LLM was asked and did not answer usably, with the reason, for a person to look at and replay.

A letter is a window asked about in vain, with all retries. A replay is a wish, written beside the letters: it says how
often each question had come to nothing by then, and holds until that number grows or an answer comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import InputError
from jobs.labelling.questions import UNUSABLE, answers_of
from jobs.llm.labelling import LabelPrompt
from jobs.storage import Tables

_OF_WINDOW = ("conversation_hash", "first_turn", "last_turn", "reason", "reply", "attempts")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `state`: open, answered (on another try), or replayed (a person wants it asked again)."""

    conversation_id: str
    conversation_ds: str
    first_turn: int
    last_turn: int
    model: str
    reason: str
    reply: str
    attempts: int
    state: str


@dataclass(frozen=True, slots=True)
class Letters:
    """Letters of a night: how many of each (reason, state), and the first few of them."""

    counts: Mapping[tuple[str, str], int]
    sample: tuple[Letter, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """`requests` will be sent by the next label run; `waiting` were wished for before and still are."""

    requests: int
    waiting: int


def letters(fresh: DataFrame, contents: DataFrame, prompt: LabelPrompt) -> DataFrame:
    """Rows of `dead_letters`, one a window.

    Args:
        fresh: rows of `ANSWERS` with `answer_key`, those that `llm_answers` has not.
        contents: rows of `with_texts` that were asked about.
    """
    names = contents.select("conversation_hash", "conversation_id", "conversation_ds").distinct()
    request = F.concat_ws("\x1f", "content_hash", F.lit(prompt.prompt_hash), F.lit(prompt.profile.served_model_name))
    return (
        fresh.where(F.col("verdict") == UNUSABLE)
        .groupBy("content_hash", "model")
        .agg(*(F.first(name).alias(name) for name in _OF_WINDOW), F.sort_array(F.collect_set("answer_key")).alias("k"))
        .withColumnRenamed("k", "answer_keys")
        .join(names, "conversation_hash")
        .withColumn("request_key", F.sha2(request, 256))
        .withColumn("prompt_hash", F.lit(prompt.prompt_hash))
        .coalesce(1)
    )


def _selected(tables: Tables, ds: str, reason: str | None, conversation: str | None) -> DataFrame:
    """Letters of night `ds` (each once) with their `state`."""
    found = tables.read_all("dead_letters").where(F.col("ds") == ds)
    if reason is not None:
        found = found.where(F.col("reason") == reason)
    if conversation is not None:
        found = found.where(F.col("conversation_id") == conversation)
    found = found.dropDuplicates(["request_key"])
    questions = found.select("request_key", F.explode("answer_keys").alias("answer_key"))
    known = answers_of(tables, questions).select("answer_key", "verdict", "replayed")
    failed = F.col("verdict") == UNUSABLE
    states = (
        questions.join(known, "answer_key")
        .groupBy("request_key")
        .agg(F.max(failed).alias("failed"), F.min(F.col("replayed") | ~failed).alias("replayed"))
    )
    state = F.when(~F.col("failed"), "answered").when(F.col("replayed"), "replayed").otherwise("open")
    return found.join(states, "request_key").withColumn("state", state)


def list_letters(tables: Tables, ds: str, reason: str | None = None, sample: int = 5) -> Letters:
    """The dead letters of night `ds`, all or those of one reason."""
    found = _selected(tables, ds, reason, None)
    rows = found.groupBy("reason", "state").count().orderBy(F.desc("count"), "reason", "state").collect()
    counts = {(row["reason"], row["state"]): int(row["count"]) for row in rows}
    fields = [F.col(name) for name in Letter.__slots__]
    some = found.orderBy("conversation_ds", "conversation_id", "first_turn").select(*fields).limit(sample).collect()
    return Letters(counts, tuple(Letter(**row.asDict()) for row in some))


def replay(tables: Tables, ds: str, reason: str | None = None, conversation: str | None = None) -> Replay:
    """Have exactly these dead letters of night `ds` asked again by the next run of the label stage.

    Answers that count are not touched, and asking twice for the same changes nothing.

    Raises:
        InputError: there is no such letter, or all of them have been answered meanwhile.
    """
    found = _selected(tables, ds, reason, conversation).where("state <> 'answered'").persist()
    try:
        counts = {row["state"]: int(row["count"]) for row in found.groupBy("state").count().collect()}
        if not counts:
            raise InputError(
                f"night {ds} has no dead letter like that which waits for an answer: "
                f"`python -m jobs dead-letters list --ds {ds}` shows what there is"
            )
        opened = found.where("state = 'open'")
        questions = opened.select("conversation_hash", "request_key", F.explode("answer_keys").alias("answer_key"))
        failed = answers_of(tables, questions).where(F.col("verdict") == UNUSABLE).select("answer_key", "failures")
        if counts.get("open"):
            tables.append("dead_letter_replays", questions.join(failed, "answer_key").coalesce(1), ds)
        return Replay(counts.get("open", 0), counts.get("replayed", 0))
    finally:
        found.unpersist()
