"""Pots of money: which mentions of intents are about the same money. Pure functions over one customer's mentions.

Two rules, in this order:

1. Within a conversation: tags about the same money are one pot. Money is the same when both amounts are known and
   equal, or when at most one is known and the tags share an evidence turn. A purpose (what the money is for: child
   education, a home, ...) names the pot, and the tags that say how to hold it (no loss, at call, foreign currency)
   are kept beside it; two purposes stay two pots. Without a purpose the tag that comes first in the taxonomy names it.
2. Across conversations: a mention joins a pot of the same name (or a pot it already stands beside, when the amounts are
   equal) that was last seen at most `window_days` nights before and whose amount does not conflict; a known amount
   prefers the pot with that amount, then the one seen last. Otherwise it opens a new pot. Each parameter keeps its
   newest known value.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import sha256

DAYS_A_MONTH = 30.44


@dataclass(frozen=True, slots=True)
class Mention:
    """An intent tag on one conversation. `when` orders conversations (ISO time, UTC), `rank` the taxonomy's tags."""

    party_key: str
    conversation_id: str
    night: str
    when: str
    tag_id: str
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
        return self.when, self.night, self.conversation_id, self.rank, self.tag_id


@dataclass(slots=True)
class Pot:
    """One pot of money; `first` is the mention that opened it, in the order of the talks.

    `first_seen` and `last_seen` are nights: a talk may be delivered long after it was held.
    """

    first: Mention
    last: Mention
    first_seen: str
    last_seen: str
    mentions: int = 1
    confidence: float = 0.0
    amount: float | None = None
    currency: str | None = None
    horizon_months: float | None = None
    needed_by: str | None = None
    risk_preference: str | None = None
    expected_return: float | None = None
    said: tuple[str, ...] = ()
    also: set[str] = field(default_factory=set)

    @property
    def intent_id(self) -> str:
        """Stable id: made of the mention that opened the pot, so it outlives a merge of customers."""
        key = "|".join((self.first.party_key, self.first.night, self.first.conversation_id, self.first.tag_id))
        return "I" + sha256(key.encode()).hexdigest()[:16]

    def add(self, mention: Mention) -> None:
        """Take in a newer mention: its known values replace older ones."""
        self.last = mention
        self.first_seen, self.last_seen = min(self.first_seen, mention.night), max(self.last_seen, mention.night)
        if not self._holds_more_than(mention):
            self.said = ()
        self.said = tuple(dict.fromkeys((*mention.said, *self.said)))
        self.confidence = max(self.confidence, mention.confidence)
        self.also |= set(mention.also) | {mention.tag_id}
        self.also.discard(self.first.tag_id)
        if mention.amount is not None:
            self.amount, self.currency = mention.amount, mention.currency
        if mention.horizon_months is not None:
            self.horizon_months = mention.horizon_months
            self.needed_by = _day_after(mention.night, mention.horizon_months)
        self.risk_preference = mention.risk_preference or self.risk_preference
        if mention.expected_return is not None:
            self.expected_return = mention.expected_return

    def _holds_more_than(self, mention: Mention) -> bool:
        """Whether a value that the mention does not speak of stands, so that its words are still true."""
        values = ("amount", "horizon_months", "risk_preference", "expected_return")
        return any(getattr(self, name) is not None and getattr(mention, name) is None for name in values)


def _day_after(night: str, months: float) -> str | None:
    day, whole = date.fromisoformat(night), int(months)
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
        fits = [i for i, pot in enumerate(pots) if _same_money(pot, mention)]
        if mention.tag_id in purposes or not fits:
            pots.append(mention)
            continue
        best = max(fits, key=lambda i: (_money(pots[i]) == _money(mention), len(pots[i].turns & mention.turns), -i))
        pots[best] = _absorb(pots[best], mention)
    return sorted(pots, key=lambda m: m.order)


def _joins(pot: Pot, mention: Mention, window_days: int) -> bool:
    apart = date.fromisoformat(mention.night) - date.fromisoformat(pot.last_seen)
    if apart.days > window_days or pot.last.order[:3] == mention.order[:3]:
        return False  # two pots of one conversation were told apart by rule 1
    known = _money(pot) is not None and _money(mention) is not None
    if mention.tag_id == pot.first.tag_id:
        return not known or _money(pot) == _money(mention)
    return mention.tag_id in pot.also and known and _money(pot) == _money(mention)


def fold_pots(mentions: Iterable[Mention], purposes: Sequence[str], window_days: int) -> list[Pot]:
    """The pots of one customer, in the order in which they were opened.

    Args:
        mentions: all intent mentions of the customer, any order.
        purposes: tags that say what money is for.
        window_days: nights after which a pot that nobody spoke of is closed.
    """
    conversations: dict[tuple[str, str, str], list[Mention]] = {}
    for mention in sorted(mentions, key=lambda m: m.order):
        conversations.setdefault(mention.order[:3], []).append(mention)
    pots: list[Pot] = []
    for conversation in conversations.values():
        for mention in merge_conversation(conversation, purposes):
            open_pots = [(i, pot) for i, pot in enumerate(pots) if _joins(pot, mention, window_days)]
            if not open_pots:
                pot = Pot(mention, mention, mention.night, mention.night, mentions=0)
                pots.append(pot)
            else:
                pot = max(
                    open_pots,
                    key=lambda item: (
                        item[1].first.tag_id == mention.tag_id,
                        _money(item[1]) is not None and _money(item[1]) == _money(mention),
                        item[1].last.order,
                        item[0],
                    ),
                )[1]
            pot.add(mention)
            pot.mentions += 1
    return pots
