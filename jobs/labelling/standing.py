"""What earlier nights found out about the labellers, read back: whom to trust with a tag, where the student is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from pyspark.sql import functions as F

from jobs.cascade import Bands
from jobs.cost_curve import Choice
from jobs.guarantee import Promise
from jobs.settings import LabelSettings
from jobs.storage import Tables


@dataclass(frozen=True, slots=True)
class Standing:
    """Tags the LLM may decide, the student's bands, and the tags that are the LLM's in whole conversations.

    `measured_on` is None where no night compared the labellers.
    """

    llm_tags: frozenset[str]
    bands: Bands
    measured_on: str | None
    whole: frozenset[str] = frozenset()


def standing(tables: Tables, ds: str, tag_ids: Sequence[str], label: LabelSettings) -> Standing:
    """As the newest night up to `ds` left it. Where there is none, every tag may go to the LLM."""
    trust = tables.read_all("llm_trust", until=ds).collect()
    if not trust:
        return Standing(frozenset(tag_ids), Bands.plain(len(tag_ids), label.unsure_low, label.unsure_high), None)
    newest = max(row["ds"] for row in trust)
    choice = _choice(tables, newest, label)
    decides = {row["tag_id"] for row in trust if row["ds"] == newest and row["llm_decides"]}
    rows = [row.asDict() for row in tables.read_all("tag_promises", until=ds).collect()]
    last = max((row["ds"] for row in rows), default="")
    found = {row["tag_id"]: row for row in rows if row["ds"] == last}
    if not set(tag_ids) <= set(found):
        return Standing(frozenset(decides & set(tag_ids)), Bands.plain(len(tag_ids), *choice.band), newest)
    names = [field.name for field in fields(Promise)]
    promises = [Promise(**{name: found[tag_id][name] for name in names}) for tag_id in tag_ids]
    decides |= {promise.tag_id for promise in promises if promise.promised == "cascade"}
    known = frozenset(decides & set(tag_ids))
    return Standing(known, Bands.of(promises, *choice.band), newest, choice.whole_tags(promises, known))


def _choice(tables: Tables, night: str, label: LabelSettings) -> Choice:
    """The band of the settings, or as `night` chose it, and whether whole conversations were the LLM's."""
    configured = (label.unsure_low, label.unsure_high)
    chosen = tables.read_all("band_costs", until=night).where((F.col("ds") == night) & F.col("chosen")).first()
    if chosen is None:
        return Choice(configured, False, ())
    return Choice(configured if label.band == "fixed" else (chosen["low"], chosen["high"]), chosen["whole"], ())
