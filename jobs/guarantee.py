"""Promises on precision and recall: per tag two thresholds that gold proves, or how much gold is missing.

A promise says: with probability `confidence`, over the draw of the gold, *every* promise made tonight holds. Sources:
SUPG (Kang et al. 2020, VLDB 13), LOTUS (Patel et al. 2024) and BARGAIN (Zeighami et al. 2025) for cascades with proven
thresholds; Learn then Test (Angelopoulos et al. 2021) for choosing them by tests of hypotheses. Each test is the exact
binomial one (Clopper & Pearson 1934): how likely is a count this good if the true rate were the target?

Corrected for many tests so: the error probability is shared out evenly among the tags, and within a tag among its
families of thresholds (Bonferroni). In a family the thresholds are tested one after the other in an order fixed
beforehand, each at the family's whole level, until the first that is not proven (fixed-sequence testing, Maurer,
Hothorn & Lehmacher 1995): thresholds are alike, a correction for each of them would cost more gold than it finds.
Holm's step-down is not used across tags, because a tag's share is spent on its sequence and cannot be handed on.
Thresholds and order never depend on labels, only settings and the grids below.

What it takes for granted: gold conversations are independent draws of what is labelled later; left-out predictions
behave as those of the student that learned from everything; the LLM answers the same question alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

from jobs.power import conversations_needed

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Promised = Literal["student", "cascade", "none"]

GRID = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Where a student's probability may be cut."""
ACCEPT_STARTS = (0.8, 0.5)
"""Accepting is tested from each of these downwards: high cuts are surer, low ones have more gold to prove them."""
BANDS = ((0.05, 0.9), (0.1, 0.8), (0.2, 0.7), (0.3, 0.6), (0.4, 0.5))
"""What the LLM decides, the widest first: strictly between the two."""
REFERENCE = 0.5
"""A student proven on a stretch of cuts uses the one nearest to this; without a promise, counts are taken here."""


@dataclass(frozen=True, slots=True)
class Target:
    """Precision and recall to be promised, and the confidence that no promise is broken, each in (0, 1)."""

    precision: float
    recall: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Gold and what both labellers say about it: n conversations x t tags, or n of a single tag.

    `probabilities` by a student that has not seen the conversation; `gold` and `llm`: what people and what the LLM
    say; `answered` (n,): where the LLM was asked and gave a usable answer.
    """

    probabilities: Array
    gold: Bools
    llm: Bools
    answered: Bools

    def tag(self, column: int) -> Evidence:
        """One tag's part."""
        return Evidence(self.probabilities[:, column], self.gold[:, column], self.llm[:, column], self.answered)


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised about one tag.

    `promised`: `student` (it decides alone: present from `accept_at` on), `cascade` (present from `accept_at` on,
    absent up to `reject_at`, the LLM decides between) or `none`; then `accept_at` and `reject_at` are what could be
    proven of the student alone, None where nothing. `precision_low` and `recall_low` are simultaneous lower bounds of
    the promised decisions, or without a promise of the student cut at 0.5. `more_gold`: further conversations of the
    same kind that the student alone would need, see `conversations_needed`; 0 where promised, None where none helps.
    """

    tag_id: str
    gold: int
    positives: int
    promised: Promised
    accept_at: float | None
    reject_at: float | None
    precision_low: float
    recall_low: float
    level: float
    more_gold: int | None
    reason: str


def p_value(right: int, trials: int, target: float) -> float:
    """Probability of `right` or more of `trials` if each were right with probability `target`: exact, one-sided."""
    return float(betainc(right, trials - right + 1, target)) if right else 1.0


def lower_bound(right: int, trials: int, level: float) -> float:
    """Clopper and Pearson's one-sided lower bound, wrong with probability `level` at most; 0 without a hit."""
    return float(betaincinv(right, trials - right + 1, level)) if right else 0.0


def _proven(right: int, trials: int, target: float, level: float) -> bool:
    return p_value(right, trials, target) <= level


def accept_at(probabilities: Array, gold: Bools, precision: float, level: float) -> float | None:
    """The lowest cut from which on acceptance is proven to be precise; (n,) arrays of one tag.

    One sequence from each of `ACCEPT_STARTS` downwards, so `level` is shared among them.
    """
    best: float | None = None
    for start in ACCEPT_STARTS:
        for cut in sorted((c for c in GRID if c <= start), reverse=True):
            accepted = probabilities >= cut
            if not _proven(int(gold[accepted].sum()), int(accepted.sum()), precision, level / len(ACCEPT_STARTS)):
                break
            best = cut if best is None else min(best, cut)
    return best


def reject_at(probabilities: Array, gold: Bools, recall: float, level: float) -> float | None:
    """The highest cut up to which rejection is proven to keep recall; (n,) arrays of one tag.

    Recall falls as the cut rises, so one sequence from the lowest upwards loses nothing.
    """
    best: float | None = None
    of_tag = probabilities[gold]
    for cut in GRID:
        if not _proven(int((of_tag > cut).sum()), len(of_tag), recall, level):
            break
        best = cut
    return best


def decide_band(probabilities: Array, llm: Bools, low: float, high: float) -> Bools:
    """Present from `high` on, absent up to `low`, between them what the LLM says; (n,)."""
    return (probabilities >= high) | ((probabilities > low) & llm)


def cheapest_band(
    probabilities: Array, gold: Bools, llm: Bools, target: Target, level: float
) -> tuple[float, float] | None:
    """The narrowest of `BANDS` with which the cascade is proven, both precision and recall; (n,) arrays of one tag.

    A band is proven where both tests reject at `level`: an intersection-union test, which needs no further correction
    (Berger 1982).
    """
    best: tuple[float, float] | None = None
    for low, high in BANDS:
        right, said, support = _counts(decide_band(probabilities, llm, low, high), gold)
        if not (_proven(right, said, target.precision, level) and _proven(right, support, target.recall, level)):
            break
        best = (low, high)
    return best


def _counts(decided: Bools, gold: Bools) -> tuple[int, int, int]:
    return int((decided & gold).sum()), int(decided.sum()), int(gold.sum())


def _promise(tag_id: str, seen: Evidence, target: Target, level: float) -> Promise:
    """One tag, whose errors may have probability `level` together."""
    p, gold, llm, answered = seen.probabilities, seen.gold, seen.llm, seen.answered
    families = 3 if answered.any() else 2
    share = level / families
    accept = accept_at(p, gold, target.precision, share)
    reject = reject_at(p, gold, target.recall, share)
    band = cheapest_band(p[answered], gold[answered], llm[answered], target, share) if answered.any() else None
    promised: Promised = "none"
    decided, truth = p >= REFERENCE, gold
    if accept is not None and reject is not None and accept <= reject:
        promised = "student"
        accept = reject = min(max(REFERENCE, accept), reject)
        decided = p >= accept
    elif band is not None:
        promised = "cascade"
        reject, accept = band
        decided, truth = decide_band(p[answered], llm[answered], reject, accept), gold[answered]
    right, said, support = _counts(decided, truth)
    precision_low, recall_low = lower_bound(right, said, share), lower_bound(right, support, share)
    more: int | None = 0
    if promised == "none":
        wanted = conversations_needed(right, said, target.precision, share / len(ACCEPT_STARTS), len(truth))
        also = conversations_needed(right, support, target.recall, share, len(truth))
        more = None if wanted is None or also is None else max(wanted, also, len(truth) + 1) - len(truth)
    reason = _reason(promised, (right, said, support), more, target)
    bounds = (precision_low, recall_low)
    return Promise(tag_id, len(gold), int(gold.sum()), promised, accept, reject, *bounds, level, more, reason)


def _reason(promised: Promised, counts: tuple[int, int, int], more: int | None, target: Target) -> str:
    right, said, support = counts
    seen = f"{right} of {said} given are right, {right} of {support} are found"
    if promised != "none":
        by = "the student alone" if promised == "student" else "student and LLM"
        return f"proven for {by}: {seen}"
    if not support:
        return "no gold conversation has the tag"
    if more is None:
        return f"at the observed rates no amount of gold proves {target.precision:g} and {target.recall:g}: {seen}"
    return f"too little gold: {seen}"


def promises(tag_ids: Sequence[str], evidence: Evidence, target: Target) -> list[Promise]:
    """What can be promised about each of t tags, given evidence of n conversations x t tags.

    Raises:
        ValueError: the shapes do not fit, or a target lies outside (0, 1).
    """
    shape = (len(evidence.answered), len(tag_ids))
    if not evidence.probabilities.shape == evidence.gold.shape == evidence.llm.shape == shape:
        raise ValueError(f"probabilities, gold and the LLM's answers must be {shape}")
    if not all(0 < value < 1 for value in (target.precision, target.recall, target.confidence)):
        raise ValueError(f"targets and confidence must lie strictly between 0 and 1: {target}")
    level = (1 - target.confidence) / max(len(tag_ids), 1)
    return [_promise(tag_id, evidence.tag(i), target, level) for i, tag_id in enumerate(tag_ids)]
