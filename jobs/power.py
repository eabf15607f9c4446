"""How much gold a promise takes: the power of the exact binomial test at the rate observed so far."""

from __future__ import annotations

import math
from functools import lru_cache

from scipy.special import betainc

POWER = 0.8
MOST_TRIALS = 100_000
"""What would take more gold than this is said to be out of reach."""


def power(trials: int, rate: float, target: float, level: float) -> float:
    """Probability that `trials` answers, each right with probability `rate`, prove `target` at `level`."""
    if betainc(trials, 1, target) > level:
        return 0.0
    # The p-value falls as more are right: the fewest that prove lie where it crosses the level.
    low, high = 0, trials
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if betainc(middle, trials - middle + 1, target) <= level else (middle, high)
    return float(betainc(high, trials - high + 1, rate))


@lru_cache(maxsize=4096)
def trials_needed(rate: float, target: float, level: float) -> int | None:
    """About the fewest answers with which `target` is proven with probability `POWER`; None if no number does.

    Power rises in small teeth, not evenly; the number is exact up to a tooth.
    """
    if rate <= target:
        return None
    high = max(1, math.ceil(math.log(level) / math.log(target)))
    while power(high, rate, target, level) < POWER:
        high *= 2
        if high > MOST_TRIALS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, rate, target, level) >= POWER else (middle, high)
    return high


def conversations_needed(right: int, trials: int, target: float, level: float, conversations: int) -> int | None:
    """Gold conversations in all with which `right` of `trials` would prove `target`, four times in five.

    Taken for granted: the rate observed, and how often a conversation counts as a trial, stay as they are. None where
    nothing was observed, or the rate is not above the target.
    """
    if not trials:
        return None
    needed = trials_needed(right / trials, target, level)
    return None if needed is None else math.ceil(needed * conversations / trials)
