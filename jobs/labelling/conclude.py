"""Views and answers of a night joined, and every conversation decided, in Spark tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow_tasks import ArrowTask, map_in_arrow
from jobs.conversation import BUSINESS_ZONE, CUSTOMER
from jobs.labelling.decide import Answer, Decision, StudentView, decide
from jobs.labelling.questions import MOST_NIGHTS, UNUSABLE
from jobs.labelling.windows import merged
from jobs.parameters import extract_parameters

_PARAMETERS = pa.struct(
    [
        ("amount", pa.float64()),
        ("currency", pa.string()),
        ("horizon_months", pa.float64()),
        ("risk_preference", pa.string()),
        ("expected_return", pa.float64()),
        ("said", pa.list_(pa.string())),
    ]
)
_ROW = pa.struct(
    [
        ("tag_id", pa.string()),
        ("labeller", pa.string()),
        ("confidence", pa.float64()),
        ("evidence", pa.list_(pa.struct([("turn", pa.int32()), ("quote", pa.string())]))),
        ("parameters", _PARAMETERS),
    ]
)
_CONCLUDED = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("conversation_ds", pa.string()),
        ("content_hash", pa.string()),
        ("rows", pa.list_(_ROW)),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int32()),
        ("tags", pa.int32()),
        ("llm_asked", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What deciding needs to know of the night: tags in the student's order, and who may decide them.

    `whole`: tags that the LLM decides in every conversation that it is asked about, see `decide`.
    """

    tag_ids: tuple[str, ...]
    llm_tags: frozenset[str]
    llm_precision: Mapping[str, float]
    parameters: Mapping[str, tuple[str, ...]]
    periodic: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()


def answer_lists(answers: DataFrame) -> DataFrame:
    """Answers (rows of `LlmPass.answers`) as one list a content: columns content_hash, answers."""
    fields = F.struct("tag_id", "verdict", "confidence", "evidence", "unusable_nights", "windows")
    return answers.groupBy("content_hash").agg(F.collect_list(fields).alias("answers"))


def conclude_one(row: Mapping[str, Any], rules: Rules) -> tuple[Decision, str, str | None]:
    """One conversation: its decision, its status (labelled, pending, dead) and why it is not labelled.

    `row` has turns, the student's view and `answers`, one a tag (or None).
    """
    known, dead, unusable = {}, set(), set()
    for entry in row["answers"] or ():
        tag_id = entry["tag_id"]
        if entry["verdict"] == UNUSABLE:
            unusable.add(tag_id)
            if entry["unusable_nights"] >= MOST_NIGHTS:
                dead.add(tag_id)
            continue
        confidence = entry["confidence"] if entry["confidence"] is not None else rules.llm_precision.get(tag_id, 0.5)
        evidence = tuple((e["turn"], e["quote"]) for e in entry["evidence"])
        known[tag_id] = Answer(entry["verdict"], confidence, evidence)
    view = StudentView(rules.tag_ids, row["probabilities"], row["decided"], row["evidence_turns"], row["unsure"])
    texts = [turn["text"] for turn in row["turns"]]
    decision = decide(view, texts, rules.llm_tags, known, frozenset(dead), whole=rules.whole)
    if decision.waiting:
        reason = "no usable answer" if unusable.intersection(decision.waiting) else "the LLM could not be asked"
        return decision, "pending", reason
    mattered = [t for t, u in zip(rules.tag_ids, row["unsure"], strict=True) if u and t in rules.llm_tags and t in dead]
    if mattered:
        return decision, "dead", f"no usable answer on {MOST_NIGHTS} nights: {', '.join(mattered)}"
    return decision, "labelled", None


def _with_parameters(
    rows: Sequence[dict[str, Any]], turns: Sequence[Mapping[str, Any]], rules: Rules, on: date
) -> list[dict[str, Any]]:
    """Fill in what was said about each intent `on` a day; evidence turns become places among the customer's turns."""
    spoken = [i for i, turn in enumerate(turns) if turn["speaker"] == CUSTOMER]
    said = [turns[i]["text"] for i in spoken]
    filled = []
    for row in rows:
        allowed = rules.parameters.get(row["tag_id"], ())
        found: dict[str, Any] | None = None
        if allowed:
            evidence = [spoken.index(e["turn"]) for e in row["evidence"] if e["turn"] in spoken]
            periodic = row["tag_id"] in rules.periodic
            found = asdict(extract_parameters(said, allowed, evidence, on=on, periodic=periodic))
        filled.append(row | {"parameters": found})
    return filled


def _concluder(rules: Rules) -> ArrowTask:
    def conclude(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            out = []
            for row in batch.to_pylist():
                answers = merged(row["answers"] or ())
                decision, status, reason = conclude_one(row | {"answers": answers}, rules)
                # The day of the talk: the night may have got it long afterwards.
                on = row["started_at"].astimezone(BUSINESS_ZONE).date()
                out.append(
                    {name: row[name] for name in ("conversation_id", "conversation_ds", "content_hash")}
                    | {
                        "rows": _with_parameters(decision.rows, row["turns"], rules, on),
                        "status": status,
                        "reason": reason,
                        "attempts": row["attempts"] + 1,
                        "tags": len(decision.tags),
                        "llm_asked": decision.asked,
                    }
                )
            yield pa.RecordBatch.from_pylist(out, schema=_CONCLUDED)

    return conclude


def conclude(candidates: DataFrame, views: DataFrame, answers: DataFrame, rules: Rules) -> DataFrame:
    """Every candidate decided: one row a conversation with nested label `rows` and its outcome."""
    key = ["conversation_id", "conversation_ds"]
    joined = (
        candidates.join(views.drop("content_hash"), key)
        .join(answer_lists(answers), "content_hash", "left")
        .select(
            *key,
            "started_at",
            "content_hash",
            "turns",
            "attempts",
            "probabilities",
            "decided",
            "evidence_turns",
            "unsure",
            "answers",
        )
    )
    return map_in_arrow(joined, _concluder(rules), _CONCLUDED)
