"""The LLM's pass: questions without an answer are asked in waves by Spark tasks, and every wave is committed.

A killed night has paid for at most one wave that it lost; the next try asks exactly what is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.conversation import Conversation, Turn
from jobs.labelling.questions import UNUSABLE, answers_of, missing_contents, settled, waves, with_keys
from jobs.labelling.usage import Spent, prefix_counts, record
from jobs.llm.client import FailureKind, LlmClient, LlmUsage, in_flight_bound
from jobs.llm.labelling import LabelOutcome, LabelPrompt, label_conversations
from jobs.llm.probe import read_metrics
from jobs.settings import LlmSettings, Settings
from jobs.storage import Tables
from jobs.taxonomy import Taxonomy

_EVIDENCE = pa.list_(pa.struct([("turn", pa.int32()), ("quote", pa.string())]))
_COUNTS = ("requests", "prompt_tokens", "cached_tokens", "output_tokens")
_ANSWERS = pa.schema(
    [
        ("content_hash", pa.string()),
        ("tag_id", pa.string()),
        ("verdict", pa.string()),
        ("confidence", pa.float64()),
        ("evidence", _EVIDENCE),
        ("failure", pa.string()),
        *((name, pa.int64()) for name in _COUNTS),
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
    spent: Spent


def _rows(outcome: LabelOutcome, tag_ids: Sequence[str]) -> Iterator[dict[str, object]]:
    base: dict[str, object] = dict.fromkeys(_COUNTS, 0)
    base |= {"content_hash": outcome.content_hash, "failure": None, "confidence": None, "evidence": []}
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
    async def ask_all(conversations: list[Conversation]) -> tuple[list[LabelOutcome], LlmUsage]:
        async with LlmClient(prompt.profile, llm) as client:
            return await label_conversations(client, prompt, conversations), client.usage

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        conversations = [
            Conversation(row["content_hash"], tuple(Turn(t["speaker"], t["text"]) for t in row["turns"]))
            for batch in batches
            for row in batch.to_pylist()
        ]
        if not conversations:
            return
        outcomes, usage = asyncio.run(ask_all(conversations))
        rows = [row for outcome in outcomes for row in _rows(outcome, prompt.tag_ids)]
        # What the whole task sent and got travels with its first row.
        rows[0] |= {name: asdict(usage)[name] for name in _COUNTS}
        yield pa.RecordBatch.from_pylist(rows, schema=_ANSWERS)

    return ask


class LlmPass:
    """Asks the LLM about conversations and remembers the answers in `llm_answers` of night `ds`."""

    def __init__(self, tables: Tables, settings: Settings, ds: str, taxonomy: Taxonomy, prompt: LabelPrompt) -> None:
        self.tables, self.settings, self.ds, self.prompt = tables, settings, ds, prompt
        self._hashes = {tag_id: taxonomy.tag(tag_id).definition_hash for tag_id in prompt.tag_ids}
        # Every Spark task has a client of its own: together they keep to the limit.
        self._askers = max(1, min(settings.llm.tasks, settings.llm.in_flight))
        in_flight = max(1, in_flight_bound(prompt.profile, settings.llm) // self._askers)
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
        if not self.settings.label.llm:
            say(f"LLM, {what}: switched off (label.llm)")
            return Asked(0, 0, 0, None, Spent())
        missing = missing_contents(self.tables, self.keys(questions), self.ds).persist()
        try:
            total = missing.count()
            if not total:
                say(f"LLM, {what}: nothing to ask")
                return Asked(0, 0, 0, None, Spent())
            return self._ask(missing, total, texts, what, say)
        finally:
            missing.unpersist()

    def _ask(self, missing: DataFrame, total: int, texts: DataFrame, what: str, say: Say) -> Asked:
        unique = texts.dropDuplicates(["content_hash"]).select("content_hash", "turns")
        spent, unusable, outage = Spent(), 0, None
        counters, began = read_metrics(self.prompt.profile), time.monotonic()
        for wave in waves(missing, self.settings.label.wave_size):
            counts, bad, outage = self._wave(wave.join(unique, "content_hash"))
            spent, unusable = spent + counts, unusable + bad
            say(
                f"LLM, {what}: {spent.conversations} of {total} conversations, {spent.requests} requests, "
                f"{unusable} without usable answer"
            )
            if outage is not None:
                say(f"LLM, {what}: stopped, {outage}; what is missing is asked again later")
                break
        queries, hits = prefix_counts(counters, read_metrics(self.prompt.profile))
        seconds = time.monotonic() - began
        spent = replace(spent, seconds=seconds, prefix_queries=queries, prefix_hits=hits)
        if outage is None:
            # Minutes of waiting for a server that is down would spoil the measured rates.
            record(self.tables, self.ds, what, self.prompt, spent)
        return Asked(spent.conversations, spent.requests, unusable, outage, spent)

    def _wave(self, contents: DataFrame) -> tuple[Spent, int, str | None]:
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
            sums = [F.sum(name).alias(name) for name in _COUNTS]
            counts = rows.agg(asked.alias("conversations"), *sums).collect()[0].asDict()
            bad = rows.where(F.col("verdict") == UNUSABLE).agg(asked).collect()[0][0]
            down = rows.where(F.col("verdict").isNull()).agg(asked.alias("n"), F.first("failure").alias("why"))
            failed, why = down.collect()[0]
            outage = None
            if failed and failed >= counts["conversations"] / 2:
                outage = f"{failed} of {counts['conversations']} conversations failed: {why}"
            return Spent(**counts), int(bad), outage
        finally:
            rows.unpersist()
