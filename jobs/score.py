"""Stage score: precision and recall on gold, with intervals.

Intervals of single tags are Wilson's; those of the micro averages are bootstrapped over customers, because the
conversations of one customer are alike, and never narrower than the exact binomial ones. The student's figures on
`calibration` come from predictions that leave the conversation out, but its thresholds were chosen there: they are
kinder than the truth. Only `test` counts for the gate (`jobs/gate.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.contracts import load_contract
from jobs.errors import GateError, InputError
from jobs.metrics import Scores, TagFigures, micro_intervals, score_matrix
from jobs.settings import GateSettings, Settings
from jobs.storage import Tables, check_ds
from jobs.taxonomies.store import approved_taxonomy, version_of
from jobs.taxonomy import Taxonomy

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The cascade on test gold. Bounds belong to the micro averages."""

    conversations: int
    precision: float
    precision_low: float
    recall: float
    recall_low: float
    met: int
    unproven: int
    below: int

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.3f} (at least {self.precision_low:.3f}), recall {self.recall:.3f} (at least "
            f"{self.recall_low:.3f}) on {self.conversations} test conversations; tags: {self.met} met the target, "
            f"{self.unproven} unproven, {self.below} below"
        )


def verdict(tag: TagFigures, gate: GateSettings) -> str:
    """A tag against the target: `met` when both lower bounds reach it, `below` when an upper bound stays under it."""
    if tag.precision_low >= gate.target_precision and tag.recall_low >= gate.target_recall:
        return "met"
    if tag.precision_high < gate.target_precision or tag.recall_high < gate.target_recall:
        return "below"
    return "unproven"


def _rows(
    scores: Scores, gold: Bools, predicted: Bools, customers: Sequence[str], gate: GateSettings
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for tag_id, found in scores.tags.items():
        row = {"tag_id": tag_id, "verdict": verdict(found, gate)} | asdict(found)
        tp = found.true_positives
        rows.append(row | {"tp": tp, "fp": found.predicted - tp, "fn": found.support - tp})
    bounds = micro_intervals(gold, predicted, groups=customers, confidence=gate.confidence)
    tp = int((gold & predicted).sum())
    micro = {
        "tag_id": "micro",
        "support": int(gold.sum()),
        "tp": tp,
        "fp": int(predicted.sum()) - tp,
        "fn": int(gold.sum()) - tp,
        "precision_low": bounds.precision.low,
        "precision_high": bounds.precision.high,
        "recall_low": bounds.recall.low,
        "recall_high": bounds.recall.high,
    }
    macro = {"tag_id": "macro", "support": int(gold.sum())}
    return [*rows, micro | asdict(scores.micro), macro | asdict(scores.macro)]


def _matrix(rows: Sequence[Any], ids: dict[str, int], tags: dict[str, int]) -> Bools:
    out = np.zeros((len(ids), len(tags)), dtype=np.bool_)
    for row in rows:
        if row["tag_id"] in tags:
            out[ids[row["conversation_id"]], tags[row["tag_id"]]] = True
    return out


def _refuse_other_tags(tables: Tables, settings: Settings, ds: str, taxonomy: Taxonomy) -> None:
    """A version that was approved since `label` would leave out of the figures what it merged, split or ended."""
    labelled = tables.read_all("labels", until=ds).where(F.col("ds") == ds).select("taxonomy_version").distinct()
    for row in labelled.collect():
        if set(version_of(settings, row["taxonomy_version"]).taxonomy.tag_ids) != set(taxonomy.tag_ids):
            raise InputError(
                f"score {ds}: the night was labelled with the tags of version {row['taxonomy_version']}, and version "
                f"{taxonomy.version} was approved since, which has others: clear `gold` of the night with what comes "
                "after it"
            )


def score(tables: Tables, settings: Settings, ds: str) -> ScoreResult:
    """Write `scores` of night `ds`; returns the cascade on test gold.

    Raises:
        InputError: `label` has not run for this night, or had other tags than those in force now.
        GateError: there is no test gold: nobody would know how good the tags are.
    """
    taxonomy = approved_taxonomy(settings, ds)
    _refuse_other_tags(tables, settings, ds, taxonomy)
    tags = {tag_id: i for i, tag_id in enumerate(taxonomy.tag_ids)}
    gold_rows = {row["conversation_id"]: row for row in tables.read("gold", check_ds(ds)).drop("turns").collect()}
    predicted_rows = tables.read("gold_predictions", ds).collect()
    rows: list[dict[str, Any]] = []
    result: ScoreResult | None = None
    for labeller, split in sorted({(r["labeller"], r["split"]) for r in predicted_rows}):
        part = [r for r in predicted_rows if (r["labeller"], r["split"]) == (labeller, split)]
        ids = {name: i for i, name in enumerate(sorted({r["conversation_id"] for r in part}))}
        gold = np.array([[tag in gold_rows[name]["labels"] for tag in tags] for name in ids], dtype=np.bool_)
        predicted = _matrix(part, ids, tags)
        scores = score_matrix(gold, predicted, list(tags), settings.gate.confidence)
        customers = [gold_rows[name]["party_key"] for name in ids]
        found = _rows(scores, gold, predicted, customers, settings.gate)
        rows += [{"labeller": labeller, "split": split} | row for row in found]
        if (labeller, split) == ("cascade", "test"):
            result = _result(found, len(ids))
    if result is None:
        raise GateError(f"score {ds}: no test gold was labelled; without it nobody knows how good the tags are")
    _write(tables, rows, ds)
    return result


def _result(rows: Sequence[dict[str, Any]], conversations: int) -> ScoreResult:
    micro = next(row for row in rows if row["tag_id"] == "micro")
    verdicts = [row.get("verdict") for row in rows]
    return ScoreResult(
        conversations,
        *(micro[name] for name in ("precision", "precision_low", "recall", "recall_low")),
        *(verdicts.count(name) for name in ("met", "unproven", "below")),
    )


def _write(tables: Tables, rows: Sequence[dict[str, Any]], ds: str) -> None:
    schema = StructType([f for f in load_contract("scores").spark_schema() if f.name != "ds"])
    values = [tuple(row.get(f.name) for f in schema) for row in rows]
    tables.write("scores", tables.spark.createDataFrame(values, schema).orderBy(F.col("tag_id")), ds)
