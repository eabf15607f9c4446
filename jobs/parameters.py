"""Intent parameters (amount, horizon, risk, return) read off what a customer said, by rules, without a model.

Rules, because each value must be traceable to words and the same every night. The conventions are the taxonomy's:
the amount is the pot of money as the customer names it, the sum of one period for a periodic saving, the middle of
a range, the lower bound of a vague number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from jobs.reading.attitude import expected_return, risk_preference
from jobs.reading.horizon import Horizon, find_horizons
from jobs.reading.money import Sum, find_sums, saves_periodically
from jobs.reading.script import plain

NAMES = ("amount", "horizon", "risk_preference", "expected_return")
_EVIDENCE_BONUS = 3.0
_STEP_COST = 0.5
_PERIOD_COST = 2.5
_FLOOR = -4.0
_RISK_REACH = 2  # turns: what is said about risk farther away is about other money
Found = TypeVar("Found")

__all__ = ["NAMES", "IntentParameters", "extract_parameters", "saves_periodically"]


@dataclass(frozen=True, slots=True)
class IntentParameters:
    """What was said about one pot of money; None where nothing was.

    `amount` is in `currency` (ISO 4217), `horizon_months` counts from the talk, `risk_preference` is low, medium or
    high, `expected_return` is percent a year; `said` holds the customer's words they were read from.
    """

    amount: float | None = None
    currency: str | None = None
    horizon_months: float | None = None
    risk_preference: str | None = None
    expected_return: float | None = None
    said: tuple[str, ...] = ()


def _distances(turns: Sequence[str], evidence: Sequence[int]) -> list[int]:
    """How many turns each turn is away from the nearest evidence; 0 everywhere where there is no evidence."""
    places = [place for place in evidence if 0 <= place < len(turns)]
    return [min((abs(i - place) for place in places), default=0) for i in range(len(turns))]


def _near(distance: int) -> float:
    return _EVIDENCE_BONUS if distance == 0 else -_STEP_COST * distance


def _amount(turns: Sequence[str], distances: Sequence[int], periodic: bool) -> Sum | None:
    best: tuple[float, Sum] | None = None
    for text, distance in zip(turns, distances, strict=True):
        for item in find_sums(text):
            score = _near(distance) + item.cue - (_PERIOD_COST if item.periodic != periodic else 0.0)
            if score > _FLOOR and (best is None or score > best[0]):
                best = score, item
    return best[1] if best else None


def _horizon(turns: Sequence[str], distances: Sequence[int], on: date | None) -> Horizon | None:
    best: tuple[float, Horizon] | None = None
    for text, distance in zip(turns, distances, strict=True):
        for item in find_horizons(text, on):
            score = _near(distance) + item.cue
            if score > _FLOOR and (best is None or score > best[0]):
                best = score, item
    return best[1] if best else None


def _nearest(turns: Sequence[str], distances: Sequence[int], read: Callable[[str], Found | None]) -> Found | None:
    reach = [i for i in range(len(turns)) if distances[i] <= _RISK_REACH]
    for place in sorted(reach, key=lambda i: (distances[i], i)):
        found = read(turns[place])
        if found is not None:
            return found
    return None


def _as_said(turns: Sequence[str], words: str) -> str:
    """The customer's own characters for words that were found in the plain text."""
    places = ((text, plain(text).find(words)) for text in turns)
    return next((text[place : place + len(words)] for text, place in places if place >= 0), words)


def extract_parameters(
    turns: Sequence[str],
    allowed: Sequence[str],
    evidence: Sequence[int] = (),
    on: date | None = None,
    periodic: bool = False,
) -> IntentParameters:
    """Read the parameters of one intent off a conversation.

    Args:
        turns: what the customer said, in order; the advisor's turns are left out.
        allowed: parameters of the tag in the taxonomy (`NAMES`); others are not read.
        evidence: positions in `turns` that show the tag; values said there or nearby win.
        on: day of the talk; without it `明年`, `年底前` and the like are not read.
        periodic: the tag is a saving of a fixed sum a period (`saves_periodically` of its definition).

    Returns:
        The values found; all None and `said` empty where nothing was said.
    """
    distances = _distances(turns, evidence)
    read = [plain(text) for text in turns]
    said: list[str] = []
    amount = _amount(read, distances, periodic) if "amount" in allowed else None
    horizon = _horizon(read, distances, on) if "horizon" in allowed else None
    risk = _nearest(read, distances, risk_preference) if "risk_preference" in allowed else None
    wish = _nearest(read, distances, expected_return) if "expected_return" in allowed else None
    said += [found.said for found in (amount, horizon) if found is not None]
    said += [words[1] for words in (risk, wish) if words is not None]
    return IntentParameters(
        amount=amount.value if amount else None,
        currency=amount.currency if amount else None,
        horizon_months=horizon.months if horizon else None,
        risk_preference=risk[0] if risk else None,
        expected_return=wish[0] if wish else None,
        said=tuple(dict.fromkeys(_as_said(turns, words) for words in said)),
    )
