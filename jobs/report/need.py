"""How much more gold a tag needs before its figures can be believed.

Proof is a lower bound of Wilson's two-sided score interval (Wilson 1927) that reaches the target. That interval inverts
the score test, so with `right` of n answers right the bound reaches a target t exactly where
right - t n >= z sqrt(t (1 - t) n), z the normal quantile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from jobs.report.night import Score


@dataclass(frozen=True, slots=True)
class Need:
    """Further test conversations with the tag that its proof takes.

    `at_least`: if no further error is made, the best case. `at_rate`: if its figures stay as they are; None where one
    of them lies at or under its target, so that no amount of gold proves it.
    """

    at_least: int
    at_rate: int | None


def further_right(right: int, trials: int, target: float, confidence: float) -> int:
    """Fewest further answers, all right, that prove `target` (below 1) after `right` of `trials`."""
    spread = _quantile(confidence) * math.sqrt(target * (1 - target))

    def proven(more: int) -> bool:
        n = trials + more
        return n > 0 and right + more - target * n >= spread * math.sqrt(n)

    high = 1
    if proven(0):
        return 0
    while not proven(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high


def trials_needed(rate: float, target: float, confidence: float) -> int | None:
    """Smallest number of answers at which a share of `rate` right proves `target`; None if no number does."""
    if rate <= target:
        return None
    return math.ceil(_quantile(confidence) ** 2 * target * (1 - target) / (rate - target) ** 2)


def gold_needed(score: Score | None, target_precision: float, target_recall: float, confidence: float) -> Need:
    """Further test gold for one tag; a tag without gold is taken to be without errors."""
    if score is not None and score.verdict == "met":
        return Need(0, 0)
    right = 0 if score is None else score.tp or 0
    given = right + (0 if score is None else score.fp or 0)
    support = 0 if score is None else score.support
    figures = ((given, target_precision), (support, target_recall))
    at_least = max(further_right(right, trials, target, confidence) for trials, target in figures)
    factors = []
    for trials, target in figures:
        wanted = trials_needed(right / trials if trials else 1.0, target, confidence)
        if wanted is None:
            return Need(at_least, None)
        factors.append(wanted / trials if trials else 0.0)
    more = math.ceil(max(factors) * support) - support
    # A further conversation is the least there can be to a tag that is not proven yet.
    return Need(max(at_least, 1), max(more, at_least, 1))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
