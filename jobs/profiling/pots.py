"""Pots of money: which mentions of intents are about the same money. Pure functions over one customer's mentions.

Two rules, in this order:

1. Within a conversation: tags about the same money are one pot. Money is the same when both amounts are known and
   equal, or when at most one is known and the tags share an evidence turn. A purpose (what the money is for: child
   education, a home, ...) names the pot, and the tags that say how to hold it (no loss, at call, foreign currency)
   are kept beside it; two purposes stay two pots. Without a purpose the tag that comes first in the taxonomy names it.
2. Across conversations: a mention joins a pot of the same name that was last spoken of at most `window_days` days
   before and whose amount does not conflict. When the amounts are known and equal, it also joins a pot that it already
   stands beside, and a purpose joins a pot without one, which then bears its name. A known amount prefers the pot with
   that amount, then the one spoken of last. Otherwise it opens a new pot. Each parameter keeps its newest known value.

Days are those on which things were said. A talk may be delivered nights later: it takes its place among the others, and
the pot keeps the id that it had.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import sha256

DAYS_A_MONTH = 30.44
_VALUES = ("amount", "horizon_months", "risk_preference", "expected_return")


@dataclass(frozen=True, slots=True)
class Mention:
    """An intent tag on one conversation. `when` orders conversations (ISO time, UTC), `rank` the taxonomy's tags.

    `night` delivered it, on `day` it was said; `label` is the tag's id as that night had it, `tag_id` as it is now.
    """

    party_key: str
    conversation_id: str
    night: str
    when: str
    day: str
    tag_id: str
    label: str
    rank: int
    confidence: float
    quality: str
    turns: frozenset[int] = frozenset()
    amount: float | None = None
    currency: str | None = None
    horizon_months: float | None = None
    risk_preference: str | None = None
    expected_return: float | None = None
    said: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, str, str, int, str]:
        """Sort key that tells any two mentions of a customer apart."""
        return self.when, self.night, self.conversation_id, self.rank, self.label


@dataclass(slots=True)
class Pot:
    """One pot of money, named by `tag_id`; `first` is the mention that was delivered first, `last` the one said last.

    `first_seen` and `last_seen` are nights: a talk may be delivered long after it was held.
    """

    first: Mention
    last: Mention
    tag_id: str
    quality: str
    first_seen: str
    last_seen: str
    mentions: int = 0
    confidence: float = 0.0
    amount: float | None = None
    currency: str | None = None
    horizon_months: float | None = None
    needed_by: str | None = None
    risk_preference: str | None = None
    expected_return: float | None = None
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    also: set[str] = field(default_factory=set)

    @property
    def intent_id(self) -> str:
        """Stable id, made of the mention that was delivered first: it outlives a merge of customers and late talks."""
        key = "|".join((self.first.party_key, self.first.night, self.first.conversation_id, self.first.label))
        return "I" + sha256(key.encode()).hexdigest()[:16]

    @property
    def said(self) -> tuple[str, ...]:
        """The words that the values standing now were read from, the newest first."""
        return tuple(dict.fromkeys(word for words in reversed(self.words.values()) for word in words))

    @classmethod
    def opened_by(cls, mention: Mention) -> Pot:
        """A pot that holds one mention."""
        pot = cls(mention, mention, mention.tag_id, mention.quality, mention.night, mention.night)
        pot.add(mention, names=True)
        return pot

    def add(self, mention: Mention, *, names: bool) -> None:
        """Take in a newer mention: its known values replace older ones, and where it `names` the pot, its tag does."""
        self.mentions += 1
        self.first = min(self.first, mention, key=lambda m: (m.night, m.order))
        self.last = mention
        self.first_seen, self.last_seen = min(self.first_seen, mention.night), max(self.last_seen, mention.night)
        for name in (name for name in _VALUES if getattr(mention, name) is not None):
            # Behind those that stand longer.
            self.words.pop(name, None)
            self.words[name] = mention.said
        self.confidence = max(self.confidence, mention.confidence)
        self.also |= {*mention.also, mention.tag_id, self.tag_id}
        if names:
            self.tag_id, self.quality = mention.tag_id, mention.quality
        self.also.discard(self.tag_id)
        if mention.amount is not None:
            self.amount, self.currency = mention.amount, mention.currency
        if mention.horizon_months is not None:
            self.horizon_months = mention.horizon_months
            self.needed_by = _day_after(mention.day, mention.horizon_months)
        self.risk_preference = mention.risk_preference or self.risk_preference
        if mention.expected_return is not None:
            self.expected_return = mention.expected_return


def _day_after(said: str, months: float) -> str | None:
    day, whole = date.fromisoformat(said), int(months)
    year, month = divmod(day.year * 12 + day.month - 1 + whole, 12)
    if not 1 <= year <= 9998:
        return None
    start = date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
    return (start + timedelta(days=round((months - whole) * DAYS_A_MONTH))).isoformat()


def _money(mention: Mention | Pot) -> tuple[float, str | None] | None:
    return None if mention.amount is None else (mention.amount, mention.currency)


def _same_money(left: Mention, right: Mention) -> bool:
    if _money(left) is not None and _money(right) is not None:
        return _money(left) == _money(right)
    return bool(left.turns & right.turns)


def _absorb(pot: Mention, way: Mention) -> Mention:
    """The pot's own values, and the other tag's where it has none."""
    return replace(
        pot,
        turns=pot.turns | way.turns,
        amount=pot.amount if pot.amount is not None else way.amount,
        currency=pot.currency if pot.amount is not None else way.currency,
        horizon_months=pot.horizon_months if pot.horizon_months is not None else way.horizon_months,
        risk_preference=pot.risk_preference or way.risk_preference,
        expected_return=pot.expected_return if pot.expected_return is not None else way.expected_return,
        said=tuple(dict.fromkeys((*pot.said, *way.said))),
        also=(*pot.also, way.tag_id),
    )


def merge_conversation(mentions: Iterable[Mention], purposes: Sequence[str]) -> list[Mention]:
    """Rule 1: the mentions of one conversation, those about the same money made one."""
    ordered = sorted(mentions, key=lambda m: (m.tag_id not in purposes, m.order))
    pots: list[Mention] = []
    for mention in ordered:
        # Tags that were merged since are one purpose, even where a night had both.
        own = mention.tag_id if mention.tag_id in purposes else None
        fits = [i for i, pot in enumerate(pots) if own in (None, pot.tag_id) and _same_money(pot, mention)]
        if not fits:
            pots.append(mention)
            continue
        best = max(fits, key=lambda i: (_money(pots[i]) == _money(mention), len(pots[i].turns & mention.turns), -i))
        pots[best] = _absorb(pots[best], mention)
    return sorted(pots, key=lambda m: m.order)


def _closed(pot: Pot, day: str, window_days: int) -> bool:
    return (date.fromisoformat(day) - date.fromisoformat(pot.last.day)).days > window_days


def _joins(pot: Pot, mention: Mention, purposes: Sequence[str]) -> bool:
    if pot.last.order[:3] == mention.order[:3]:
        return False  # two pots of one conversation were told apart by rule 1
    known = _money(pot) is not None and _money(mention) is not None
    equal = known and _money(pot) == _money(mention)
    if mention.tag_id == pot.tag_id:
        return equal or not known
    return equal and (mention.tag_id in pot.also or _gives_purpose(pot, mention, purposes))


def _gives_purpose(pot: Pot, mention: Mention, purposes: Sequence[str]) -> bool:
    return mention.tag_id in purposes and pot.tag_id not in purposes


def fold_pots(mentions: Iterable[Mention], purposes: Sequence[str], window_days: int) -> list[Pot]:
    """The pots of one customer, in the order in which they were opened.

    Args:
        mentions: all intent mentions of the customer, any order.
        purposes: tags that say what money is for.
        window_days: days after which a pot that nobody spoke of is closed.
    """
    conversations: dict[tuple[str, str, str], list[Mention]] = {}
    for mention in sorted(mentions, key=lambda m: m.order):
        conversations.setdefault(mention.order[:3], []).append(mention)
    pots: list[Pot] = []
    still_open: list[Pot] = []
    for conversation in conversations.values():
        # Talks come in the order of their days: what is closed once stays closed.
        still_open = [pot for pot in still_open if not _closed(pot, conversation[0].day, window_days)]
        for mention in merge_conversation(conversation, purposes):
            fits = [(i, pot) for i, pot in enumerate(still_open) if _joins(pot, mention, purposes)]
            if not fits:
                still_open.append(Pot.opened_by(mention))
                pots.append(still_open[-1])
                continue
            _, pot = max(
                fits,
                key=lambda item: (
                    item[1].tag_id == mention.tag_id,
                    _money(item[1]) is not None and _money(item[1]) == _money(mention),
                    item[1].last.order,
                    item[0],
                ),
            )
            pot.add(mention, names=mention.tag_id == pot.tag_id or _gives_purpose(pot, mention, purposes))
    return pots
