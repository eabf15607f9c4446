"""What earlier nights found out about the labellers, read back: whom to trust with a tag, where the student is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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
    choice = _choice(tables, ds, label)
    plain = Bands.plain(len(tag_ids), *choice.band)
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
    known = frozenset(decides & set(tag_ids))
    return Standing(known, Bands.of(promises, *choice.band), newest, choice.whole_tags(promises, known))


def _choice(tables: Tables, ds: str, label: LabelSettings) -> Choice:
    """The band of the settings, or as the newest night chose it, and whether whole conversations were the LLM's."""
    configured = (label.unsure_low, label.unsure_high)
    rows = [row for row in tables.read_all("band_costs", until=ds).collect() if row["chosen"]]
    newest = max(rows, key=lambda row: str(row["ds"]), default=None)
    if newest is None:
        return Choice(configured, False, ())
    return Choice(configured if label.band == "fixed" else (newest["low"], newest["high"]), newest["whole"], ())
