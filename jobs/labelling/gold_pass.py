"""Both labellers on gold: whom to trust with a tag (calibration), and what `score` measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.cascade import BoolArray, TagTrust, give_up, llm_trust
from jobs.cost_curve import Band, CostPoint, Tried, cost_curve
from jobs.guarantee import Evidence, Promise, Target, promises
from jobs.labelling.conclude import Rules, conclude_one
from jobs.labelling.decide import CANNOT_TELL, NONE
from jobs.labelling.questions import UNUSABLE
from jobs.labelling.windows import merged
from jobs.storage import Tables


@dataclass(frozen=True, slots=True)
class Compared:
    """Both labellers on gold: one entry a tag in `trust` and `promised`, one a band of doubt in `costs`."""

    trust: list[TagTrust]
    promised: list[Promise]
    costs: tuple[CostPoint, ...]


def gold_candidates(tables: Tables, ds: str, *splits: str) -> DataFrame:
    """Gold of some splits as the labellers see it: no labels among the columns."""
    return (
        tables.read("gold", ds)
        .where(F.col("split").isin(*splits))
        .select("conversation_id", F.lit(ds).alias("conversation_ds"), "content_hash", "turns", "split")
    )


def gold_labels(tables: Tables, ds: str, *splits: str) -> dict[str, set[str]]:
    """Gold of some splits: the tags of each conversation."""
    rows = tables.read("gold", ds).where(F.col("split").isin(*splits)).select("conversation_id", "labels").collect()
    return {row["conversation_id"]: set(row["labels"]) for row in rows}


def verdicts_by_content(answers: DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Answers as lists of plain rows a content, one row a tag."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in answers.collect():
        found.setdefault(row["content_hash"], []).append(row.asDict(recursive=True))
    return {content: merged(entries) for content, entries in found.items()}


def _usable(entries: Sequence[Mapping[str, Any]], tag_ids: Sequence[str]) -> bool:
    return {e["tag_id"] for e in entries if e["verdict"] != UNUSABLE} >= set(tag_ids)


def _cannot_tell(entries: Sequence[Mapping[str, Any]]) -> bool:
    return any(entry["verdict"] == CANNOT_TELL for entry in entries)


def once(views: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One view a content, calibration's before train's, else the first by id: copies err together and prove no more."""
    chosen: dict[str, str] = {}
    for row in sorted(views, key=lambda row: (row["split"] != "calibration", row["conversation_id"])):
        chosen.setdefault(row["content_hash"], row["conversation_id"])
    kept = set(chosen.values())
    return [row for row in views if row["conversation_id"] in kept]


def compare(
    labels: Mapping[str, set[str]],
    views: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    tag_ids: Sequence[str],
    target: Target,
    *,
    band: Band,
    given_up: str | None = None,
) -> Compared:
    """Which tags the LLM may decide, what can be promised about each, and what asking it costs and wins.

    Args:
        labels: gold by conversation.
        views: the student's, of train and calibration gold, each without having seen it; of equal contents one counts
            (`once`). Whom to trust is measured on calibration gold; a promise about the student rests on all, one about
            both on what the LLM answered.
        verdicts: the LLM's answers by content; only calibration gold is asked.
        band: between what probabilities the student is unsure, by the settings.
        given_up: why not all of it was asked (`given_up_on`).
    """
    views = once(views)
    gold, student, llm, answered = _side_by_side(labels, views, verdicts, tag_ids)
    told = answered & ~np.array([_cannot_tell(verdicts.get(row["content_hash"], ())) for row in views], bool)
    probabilities = np.array([row["probabilities"] for row in views]).reshape(gold.shape)
    held = np.array([row["split"] == "calibration" for row in views], bool)
    trust = llm_trust(tag_ids, gold[held], student[held], llm[held], answered[held], given_up=given_up)
    promised = promises(tag_ids, Evidence(probabilities, gold, llm, answered), target)
    tried = Tried(gold, probabilities, student, llm, answered, told).at(held)
    decides = np.array([entry.llm_decides for entry in trust], bool)
    return Compared(trust, promised, cost_curve(tried, promised, target, band, decides=decides))


def given_up_on(
    labels: Mapping[str, set[str]],
    views: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    tag_ids: Sequence[str],
) -> str | None:
    """Why the LLM need not be asked about the rest of calibration gold (`jobs.cascade.give_up`), or None.

    Arguments are those of `compare`.
    """
    held = once([row for row in views if row["split"] == "calibration"])
    return give_up(*_side_by_side(labels, held, verdicts, tag_ids))


def _side_by_side(
    labels: Mapping[str, set[str]],
    views: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    tag_ids: Sequence[str],
) -> tuple[BoolArray, BoolArray, BoolArray, BoolArray]:
    """(n, t) gold, student, LLM, and (n,) whether the LLM answered every tag usably."""
    shape = (len(views), len(tag_ids))
    gold, student, llm = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    answered = np.zeros(len(views), bool)
    for i, row in enumerate(views):
        gold[i] = [tag in labels[row["conversation_id"]] for tag in tag_ids]
        student[i] = row["decided"]
        entries = verdicts.get(row["content_hash"], [])
        answered[i] = _usable(entries, tag_ids)
        present = {e["tag_id"] for e in entries if e["verdict"] == "present"}
        llm[i] = [tag in present for tag in tag_ids]
    return gold, student, llm, answered


def _prediction(labeller: str, view: Mapping[str, Any], tags: Mapping[str, float]) -> list[dict[str, Any]]:
    base = {"labeller": labeller, "split": view["split"], "conversation_id": view["conversation_id"]}
    return [base | {"tag_id": tag, "confidence": value} for tag, value in (tags or {NONE: 1.0}).items()]


def predictions(
    views: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Sequence[Mapping[str, Any]]], rules: Rules
) -> tuple[list[dict[str, Any]], int]:
    """Rows of `gold_predictions`: the student and the cascade on all of it, the LLM where it answered every tag.

    What waits for the LLM is scored as the student has it, which is what it will be should the LLM never answer; a
    conversation of the night gets no such tag before that. The second value is how many conversations of gold wait.
    """
    rows: list[dict[str, Any]] = []
    waiting = 0
    for view in views:
        probability = dict(zip(rules.tag_ids, view["probabilities"], strict=True))
        decided = [tag for tag, yes in zip(rules.tag_ids, view["decided"], strict=True) if yes]
        rows += _prediction("student", view, {tag: probability[tag] for tag in decided})
        entries = verdicts.get(view["content_hash"], [])
        if _usable(entries, rules.tag_ids):
            present = [e for e in entries if e["verdict"] == "present"]
            said = {e["tag_id"]: e["confidence"] or rules.llm_precision.get(e["tag_id"], 0.5) for e in present}
            rows += _prediction("llm", view, said)
        decision, _, _ = conclude_one(dict(view) | {"answers": entries}, rules)
        by_cascade = {r["tag_id"]: r["confidence"] for r in decision.rows if r["tag_id"] in probability}
        waiting += bool(decision.waiting)
        by_cascade |= {tag: probability[tag] for tag in decision.waiting if tag in decided}
        rows += _prediction("cascade", view, by_cascade)
    return rows, waiting
