"""The LLM's pass: questions without an answer are asked in waves by Spark tasks, and every wave is committed.

A killed night has paid for at most one wave that it lost; the next try asks exactly what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.conversation import Conversation, Turn
from jobs.labelling.questions import UNUSABLE, answers_of, missing_contents, settled, waves, with_keys
from jobs.llm.client import FailureKind, LlmClient
from jobs.llm.labelling import LabelOutcome, LabelPrompt, label_conversations
from jobs.settings import LlmSettings, Settings
from jobs.storage import Tables
from jobs.taxonomy import Taxonomy

_EVIDENCE = pa.list_(pa.struct([("turn", pa.int32()), ("quote", pa.string())]))
_ANSWERS = pa.schema(
    [
        ("content_hash", pa.string()),
        ("tag_id", pa.string()),
        ("verdict", pa.string()),
        ("confidence", pa.float64()),
        ("evidence", _EVIDENCE),
        ("failure", pa.string()),
        ("requests", pa.int64()),
    ]
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pass sent and got: requests count retries; `outage` says why the pass was cut short, if it was."""

    contents: int
    requests: int
    unusable: int
    outage: str | None


def _rows(outcome: LabelOutcome, tag_ids: Sequence[str]) -> Iterator[dict[str, object]]:
    base = {"content_hash": outcome.content_hash, "requests": 0, "failure": None, "confidence": None, "evidence": []}
    if outcome.answer is None:
        kind = outcome.failure.kind if outcome.failure else FailureKind.BAD_ANSWER
        verdict = UNUSABLE if kind in (FailureKind.BAD_ANSWER, FailureKind.REJECTED) else None
        for tag_id in tag_ids:
            yield base | {"tag_id": tag_id, "verdict": verdict, "failure": str(kind)}
        return
    present = {tag.tag: tag.evidence for tag in outcome.answer.tags}
    otherwise = "cannot_tell" if outcome.answer.cannot_tell else "absent"
    for tag_id in tag_ids:
        found = present.get(tag_id)
        yield base | {
            "tag_id": tag_id,
            "verdict": "present" if found else otherwise,
            "confidence": outcome.confidence.get(tag_id),
            "evidence": [{"turn": e.turn, "quote": e.quote} for e in found or ()],
        }


def _asker(prompt: LabelPrompt, llm: LlmSettings) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    async def ask_all(conversations: list[Conversation]) -> tuple[list[LabelOutcome], int]:
        async with LlmClient(prompt.profile, llm) as client:
            return await label_conversations(client, prompt, conversations), client.usage.requests

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        conversations = [
            Conversation(row["content_hash"], tuple(Turn(t["speaker"], t["text"]) for t in row["turns"]))
            for batch in batches
            for row in batch.to_pylist()
        ]
        if not conversations:
            return
        outcomes, requests = asyncio.run(ask_all(conversations))
        rows = [row for outcome in outcomes for row in _rows(outcome, prompt.tag_ids)]
        rows[0]["requests"] = requests
        yield pa.RecordBatch.from_pylist(rows, schema=_ANSWERS)

    return ask


class LlmPass:
    """Asks the LLM about conversations and remembers the answers in `llm_answers` of night `ds`."""

    def __init__(self, tables: Tables, settings: Settings, ds: str, taxonomy: Taxonomy, prompt: LabelPrompt) -> None:
        self.tables, self.settings, self.ds, self.prompt = tables, settings, ds, prompt
        self._hashes = {tag_id: taxonomy.tag(tag_id).definition_hash for tag_id in prompt.tag_ids}
        # Every Spark task has a client of its own: together they keep to the limit.
        self._askers = max(1, min(settings.llm.tasks, settings.llm.in_flight))
        in_flight = max(1, min(settings.llm.in_flight, prompt.profile.in_flight) // self._askers)
        self._llm = settings.llm.model_copy(update={"in_flight": in_flight})

    def keys(self, questions: DataFrame) -> DataFrame:
        """`questions` (content_hash, tag_id) with their answer keys."""
        return with_keys(questions, self._hashes, self.prompt.prompt_hash, self.prompt.profile.served_model_name)

    def answers(self, questions: DataFrame) -> DataFrame:
        """What is known of these questions by now."""
        return answers_of(self.tables, self.keys(questions))

    def ask(self, questions: DataFrame, texts: DataFrame, what: str, say: Say) -> Asked:
        """Ask what is not settled yet.

        Args:
            questions: rows (content_hash, tag_id).
            texts: rows (content_hash, turns) of at least these contents.
            what: for the progress lines.
        """
        missing = missing_contents(self.tables, self.keys(questions), self.ds).persist()
        try:
            total = missing.count()
            if not total:
                say(f"LLM, {what}: nothing to ask")
                return Asked(0, 0, 0, None)
            unique = texts.dropDuplicates(["content_hash"]).select("content_hash", "turns")
            done = requests = unusable = 0
            for wave in waves(missing, self.settings.label.wave_size):
                sent, bad, outage, size = self._wave(wave.join(unique, "content_hash"))
                done, requests, unusable = done + size, requests + sent, unusable + bad
                say(
                    f"LLM, {what}: {done} of {total} conversations, {requests} requests, "
                    f"{unusable} without usable answer"
                )
                if outage is not None:
                    say(f"LLM, {what}: stopped, {outage}; what is missing is asked again later")
                    return Asked(done, requests, unusable, outage)
            return Asked(done, requests, unusable, None)
        finally:
            missing.unpersist()

    def _wave(self, contents: DataFrame) -> tuple[int, int, str | None, int]:
        rows = (
            contents.select("content_hash", "turns")
            .repartition(self._askers)
            .mapInArrow(_asker(self.prompt, self._llm), from_arrow_schema(_ANSWERS))
            .persist(StorageLevel.DISK_ONLY)
        )
        try:
            keyed = self.keys(rows).withColumn("model", F.lit(self.prompt.profile.served_model_name))
            answered = keyed.where(F.col("verdict").isNotNull())
            known = settled(answers_of(self.tables, answered), self.ds).select("answer_key")
            self.tables.append("llm_answers", answered.join(known, "answer_key", "left_anti"), self.ds)
            asked = F.countDistinct("content_hash")
            counts = rows.agg(F.sum("requests").alias("requests"), asked.alias("contents")).collect()[0]
            bad = rows.where(F.col("verdict") == UNUSABLE).agg(asked).collect()[0][0]
            down = rows.where(F.col("verdict").isNull()).agg(asked.alias("n"), F.first("failure").alias("why"))
            failed, why = down.collect()[0]
            outage = None
            if failed and failed >= counts["contents"] / 2:
                outage = f"{failed} of {counts['contents']} conversations failed: {why}"
            return int(counts["requests"]), int(bad), outage, int(counts["contents"])
        finally:
            rows.unpersist()
