"""What earlier nights found out about the labellers, read back: whom to trust with a tag, where the student is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from jobs.cascade import Bands
from jobs.cost_curve import Band
from jobs.guarantee import Promise
from jobs.settings import LabelSettings
from jobs.storage import Tables


@dataclass(frozen=True, slots=True)
class Standing:
    """Tags the LLM may decide and the student's bands; `measured_on` is None where no night compared the labellers."""

    llm_tags: frozenset[str]
    bands: Bands
    measured_on: str | None


def standing(tables: Tables, ds: str, tag_ids: Sequence[str], label: LabelSettings) -> Standing:
    """As the newest night up to `ds` left it. Where there is none, every tag may go to the LLM."""
    band = _band(tables, ds, label)
    plain = Bands.plain(len(tag_ids), *band)
    trust = tables.read_all("llm_trust", until=ds).collect()
    if not trust:
        return Standing(frozenset(tag_ids), plain, None)
    newest = max(row["ds"] for row in trust)
    decides = {row["tag_id"] for row in trust if row["ds"] == newest and row["llm_decides"]}
    rows = [row.asDict() for row in tables.read_all("tag_promises", until=ds).collect()]
    last = max((row["ds"] for row in rows), default="")
    found = {row["tag_id"]: row for row in rows if row["ds"] == last}
    if not set(tag_ids) <= set(found):
        return Standing(frozenset(decides & set(tag_ids)), plain, newest)
    names = [field.name for field in fields(Promise)]
    promises = [Promise(**{name: found[tag_id][name] for name in names}) for tag_id in tag_ids]
    decides |= {promise.tag_id for promise in promises if promise.promised == "cascade"}
    return Standing(frozenset(decides & set(tag_ids)), Bands.of(promises, *band), newest)


def _band(tables: Tables, ds: str, label: LabelSettings) -> Band:
    """Where the student is unsure of what is not promised: by the settings, or as the newest night chose it."""
    configured = (label.unsure_low, label.unsure_high)
    if label.band == "fixed":
        return configured
    rows = [row for row in tables.read_all("band_costs", until=ds).collect() if row["chosen"]]
    newest = max(rows, key=lambda row: str(row["ds"]), default=None)
    return configured if newest is None else (newest["low"], newest["high"])
