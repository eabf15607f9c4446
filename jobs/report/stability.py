"""How the tags given tonight differ from those of the nights before, read from the tables of labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from pyspark.sql import functions as F

from jobs.drift import Drift, TagSet, tag_drift
from jobs.labelling.decide import CANNOT_TELL, NONE
from jobs.storage import Tables

NIGHTS = 7
"""Earlier nights that a night is compared with, taken together."""


@dataclass(frozen=True, slots=True)
class Stability:
    """`trend`: (night, whole distribution against the nights before it), oldest first; `tags`: tonight, tag by tag."""

    compared_with: tuple[str, ...]
    trend: tuple[tuple[str, Drift], ...]
    tags: tuple[Drift, ...]


def collect_stability(tables: Tables, ds: str, confidence: float) -> Stability:
    """Compare night `ds`, and each of the nights shown before it, with the up to `NIGHTS` nights before that night.

    Only conversations of the night itself that are labelled count: what was carried over is another night's.
    """
    by_night = _tag_sets(tables, ds)
    nights = sorted(by_night)
    trend: list[tuple[str, Drift]] = []
    tonight: list[Drift] = []
    for place, night in enumerate(nights):
        before: Counter[TagSet] = Counter()
        for earlier in nights[max(0, place - NIGHTS) : place]:
            before.update(by_night[earlier])
        found = tag_drift(before, by_night[night], confidence=confidence)
        trend += [(night, drift) for drift in found if drift.tag_id is None]
        if night == ds:
            tonight = [drift for drift in found if drift.tag_id is not None]
    compared = nights[:-1] if nights and nights[-1] == ds else []
    return Stability(tuple(compared[-NIGHTS:]), tuple(trend[-NIGHTS - 1 :]), tuple(tonight))


def _tag_sets(tables: Tables, ds: str) -> dict[str, Counter[TagSet]]:
    """For the newest nights up to `ds`: how many conversations have exactly which tags. Spark counts."""
    key = ["ds", "conversation_id"]
    own = F.col("conversation_ds") == F.col("ds")
    outcomes = tables.read_all("label_outcomes", until=ds).where(own & (F.col("status") == "labelled")).select(*key)
    newest = [row["ds"] for row in outcomes.select("ds").distinct().orderBy(F.col("ds").desc()).take(2 * NIGHTS + 1)]
    wanted = outcomes.where(F.col("ds").isin(*newest)) if newest else outcomes
    given = tables.read_all("labels", until=ds).where(own & ~F.col("tag_id").isin(NONE, CANNOT_TELL))
    sets = (
        wanted.join(given.select(*key, "tag_id"), key, "left")
        .groupBy(*key)
        .agg(F.sort_array(F.collect_set("tag_id")).alias("tags"))
    )
    found: dict[str, Counter[TagSet]] = defaultdict(Counter)
    for row in sets.groupBy("ds", "tags").count().collect():
        found[row["ds"]][tuple(row["tags"])] += row["count"]
    return dict(found)
