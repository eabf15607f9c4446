"""Reads a night's figures from the fact tables; Spark aggregates, only small results come back."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import fields

from pyspark.sql import functions as F

from jobs.cascade import TagTrust
from jobs.cost_curve import CostPoint
from jobs.guarantee import Promise
from jobs.labelling.decide import CANNOT_TELL, NONE
from jobs.labelling.outcomes import TAGGED, UNDECIDED, outcomes_of
from jobs.report.night import MICRO, Flow, Night, Provenance, Score, TagUse
from jobs.storage import Tables, check_ds


def collect_night(tables: Tables, ds: str) -> Night:
    """Everything that report, MLflow and summary say about night `ds`.

    Raises:
        InputError: a table lacks this night, naming the stage's table that must be written first.
    """
    check_ds(ds)
    uses, provenance = _labels(tables, ds)
    scores, trend = _scores(tables, ds)
    trust, promises = _trust(tables, ds), _promises(tables, ds)
    costs, gold = _costs(tables, ds), _gold(tables, ds)
    return Night(ds, _flow(tables, ds), uses, provenance, scores, trend, trust, promises, costs, gold)


def _flow(tables: Tables, ds: str) -> Flow:
    channels = {
        row["channel"]: row["count"] for row in tables.read("conversations", ds).groupBy("channel").count().collect()
    }
    quarantine = {
        row["reason"]: row["count"] for row in tables.read("quarantine", ds).groupBy("reason").count().collect()
    }
    letters = tables.read_all("dead_letters").where(F.col("ds") == ds).dropDuplicates(["request_key"])
    dead_letters = {row["reason"]: row["count"] for row in letters.groupBy("reason").count().collect()}
    status: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    outcomes = tables.read("label_outcomes", ds)
    late = (F.col("conversation_ds") < ds).alias("late")
    for row in outcomes.groupBy("status", "reason", "llm_asked", late).count().collect():
        number = row["count"]
        status[row["status"]] += number
        if row["status"] != "labelled":
            reasons[row["reason"] or "unknown"] += number
        if row["late"]:
            counts["carried"] += number
        if row["llm_asked"] and row["status"] == "labelled":
            counts["llm_labelled"] += number
    answers = _answers(tables, ds)
    return Flow(
        conversations=sum(channels.values()),
        channels=_largest_first(channels),
        quarantine=_largest_first(quarantine),
        dead_letters=_largest_first(dead_letters),
        carried=counts["carried"],
        labelled=status["labelled"],
        llm_labelled=counts["llm_labelled"],
        pending=status["pending"],
        dead=status["dead"],
        tagged=answers.get(TAGGED, 0),
        no_tag=answers.get(NONE, 0),
        undecided=answers.get(UNDECIDED, 0),
        reasons=_largest_first(reasons),
    )


def _answers(tables: Tables, ds: str) -> dict[str, int]:
    found = outcomes_of(tables.read("label_outcomes", ds), tables.read("labels", ds))
    return {row["outcome"]: row["count"] for row in found.groupBy("outcome").count().collect()}


def _labels(tables: Tables, ds: str) -> tuple[dict[str, TagUse], Provenance]:
    groups = (
        tables.read("labels", ds)
        .groupBy("tag_id", "labeller", "model", "prompt_hash", "taxonomy_version")
        .agg(F.count("*").alias("n"), F.sum("confidence").alias("confidence"))
        .collect()
    )
    by: dict[str, Counter[str]] = defaultdict(Counter)
    confidence: Counter[str] = Counter()
    for row in groups:
        if row["tag_id"] not in (NONE, CANNOT_TELL):
            by[row["tag_id"]][row["labeller"]] += row["n"]
            confidence[row["tag_id"]] += row["confidence"]
    uses = {tag: TagUse(count["student"], count["llm"], confidence[tag] / count.total()) for tag, count in by.items()}
    provenance = Provenance(
        student_models=tuple(sorted({row["model"] for row in groups if row["labeller"] == "student"})),
        llm_models=tuple(sorted({row["model"] for row in groups if row["labeller"] == "llm"})),
        prompt_hashes=tuple(sorted({row["prompt_hash"] for row in groups if row["prompt_hash"]})),
        taxonomy_versions=tuple(sorted({row["taxonomy_version"] for row in groups})),
    )
    return uses, provenance


def _scores(tables: Tables, ds: str) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
    tables.read("scores", ds)
    micro = (F.col("labeller") == "cascade") & (F.col("split") == "test") & (F.col("tag_id") == MICRO)
    wanted = tables.read_all("scores", until=ds).where((F.col("ds") == ds) | micro)
    names = [field.name for field in fields(Score)]
    found = [Score(**{name: row[name] for name in names}) for row in wanted.orderBy("ds", "tag_id").collect()]
    trend = [s for s in found if (s.labeller, s.split, s.tag_id) == ("cascade", "test", MICRO)]
    return tuple(s for s in found if s.ds == ds), tuple(trend)


def _trust(tables: Tables, ds: str) -> dict[str, TagTrust]:
    names = [field.name for field in fields(TagTrust)]
    return {
        row["tag_id"]: TagTrust(**{name: row[name] for name in names}) for row in tables.read("llm_trust", ds).collect()
    }


def _promises(tables: Tables, ds: str) -> dict[str, Promise]:
    names = [field.name for field in fields(Promise)]
    rows = tables.read("tag_promises", ds).collect()
    return {row["tag_id"]: Promise(**{name: row[name] for name in names}) for row in rows}


def _costs(tables: Tables, ds: str) -> tuple[CostPoint, ...]:
    names = [field.name for field in fields(CostPoint)]
    # Nights where the LLM decided nothing have no rows.
    rows = tables.read_all("band_costs", until=ds).where(F.col("ds") == ds).orderBy("low", F.desc("high")).collect()
    return tuple(CostPoint(**{name: row[name] for name in names}) for row in rows)


def _gold(tables: Tables, ds: str) -> dict[str, int]:
    return {row["split"]: row["count"] for row in tables.read("gold", ds).groupBy("split").count().collect()}


def _largest_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
