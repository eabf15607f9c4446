"""What the page shows, worked out from the night's figures: rows in their order, and the verdict in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cascade import TagTrust
from jobs.guarantee import Promise
from jobs.report.need import Need, gold_needed
from jobs.report.night import MICRO, Night, Score, TagUse
from jobs.settings import GateSettings
from jobs.taxonomy import Tag, Taxonomy

_ORDER = ("below", "unproven", "no_gold", "met")


@dataclass(frozen=True, slots=True)
class TagRow:
    """One tag of the table. `score` is the cascade's on test gold; `trust` compares both labellers, `promise` is what
    learning gold proves."""

    id: str
    name: str
    kind: str
    definition: str
    verdict: str
    score: Score | None
    need: Need
    trust: TagTrust | None
    promise: Promise | None
    use: TagUse


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the night stands. `passed` is the floor on micro figures, None where it cannot be told.

    `more_gold`: tagged test conversations that the open tags lack at the very least, counted tag by tag;
    `hopeless`: open tags that no amount of gold proves at today's figures.
    """

    counts: dict[str, int]
    passed: bool | None
    micro: Score | None
    more_gold: int
    hopeless: int

    @property
    def total(self) -> int:
        """Tags looked at."""
        return sum(self.counts.values())


def tag_rows(night: Night, taxonomy: Taxonomy, gate: GateSettings) -> list[TagRow]:
    """One row for each tag in use, and for each tag that labels or scores name besides; problems first."""
    cascade = night.tag_scores("cascade", "test")
    strangers = sorted((set(cascade) | set(night.uses)) - set(taxonomy.tag_ids))
    tags = [taxonomy.tag(tag_id) for tag_id in taxonomy.tag_ids]
    tags += [Tag(tag_id, tag_id, "", kind="") for tag_id in strangers]
    rows = []
    for tag in tags:
        score = cascade.get(tag.id)
        rows.append(
            TagRow(
                id=tag.id,
                name=tag.name,
                kind=tag.kind,
                definition=tag.definition,
                verdict=_verdict(score),
                score=score,
                need=gold_needed(score, gate.target_precision, gate.target_recall, gate.confidence),
                trust=night.trust.get(tag.id),
                promise=night.promises.get(tag.id),
                use=night.uses.get(tag.id, TagUse()),
            )
        )
    return sorted(rows, key=_worst_first)


def verdict(night: Night, rows: Sequence[TagRow], gate: GateSettings) -> Verdict:
    """The gate's view of the night: tags by verdict, the floor, and the gold that is missing."""
    micro = night.score("cascade", "test", MICRO)
    passed = None
    if micro is not None and micro.precision_low is not None and micro.recall_low is not None:
        passed = micro.precision_low >= gate.floor_precision and micro.recall_low >= gate.floor_recall
    open_rows = [row for row in rows if row.verdict in ("unproven", "no_gold")]
    return Verdict(
        counts={name: sum(row.verdict == name for row in rows) for name in _ORDER},
        passed=passed,
        micro=micro,
        more_gold=sum(row.need.at_least for row in open_rows),
        hopeless=sum(row.need.at_rate is None for row in open_rows),
    )


def _verdict(score: Score | None) -> str:
    if score is None or (score.support == 0 and not score.errors):
        return "no_gold"
    return score.verdict or "unproven"


def _worst_first(row: TagRow) -> tuple[int, float, int, str]:
    worst = min(row.score.precision, row.score.recall) if row.score else 0.0
    return _ORDER.index(row.verdict), worst, -row.use.total, row.id
