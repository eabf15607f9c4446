"""What asking the LLM costs and wins: the cascade on calibration gold, for wider and narrower bands of doubt.

`label.unsure_low` and `label.unsure_high` say where the student is unsure. A narrow band asks little and leaves the
student's mistakes where it was sure; a wide one asks nearly everything and labels as well as the LLM. Calibration gold,
which the LLM has answered anyway when it was tried, shows the whole trade before a night is paid, and proves of some
bands that they meet the target over all tags together. That takes far less gold than a promise about every single tag
(`jobs/guarantee.py`), and says less.

One answer holds the LLM's word on every tag. So where it is asked about a conversation at all, it can as well decide
the tags that the student is sure of. Calibration gold says whether that makes fewer errors (`CostPoint.whole`); it
costs no request.

How it is kept honest. Whom the LLM may decide is learned from other conversations than the one that is looked at
(cross-fitting, `FOLDS` parts). Tags of one conversation go wrong together, so a lower bound is the lower of two:
Clopper and Pearson's, as if labels were independent, and that of a ratio of sums over conversations (Cochran 1977,
"Sampling techniques", section 6; Student's t), which does not see the error that has not been made yet. Bands are
tested in sequences fixed beforehand, each narrower than the one before, until the first that is not proven; the
sequences share the error probability (see `jobs/guarantee.py`). What is taken for granted is written there, too, and
two things more: thresholds of promised tags were proven on this same gold, and whether an answer counts for whole
conversations was chosen on it. `bench band` shows what that leaves of the confidence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from jobs.cascade import Bands, BoolArray, FloatArray, trust_of_others, whole_conversations
from jobs.guarantee import Promise, Target, lower_bound
from jobs.metrics import figures

Band = tuple[float, float]

FOLDS = 5
LOWS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
GRID: tuple[Band, ...] = tuple((low, 1 - low) for low in LOWS)
"""Bands that are tried, the widest first; with the last one nobody is asked."""
STARTS = (0, 4)
"""Where in the grid a sequence starts: a wide band is the surest with an LLM that is better where the student is sure,
a narrower one with an LLM that is not."""


@dataclass(frozen=True, slots=True)
class CostPoint:
    """The cascade on `conversations`, unsure strictly between `low` and `high`: `asked` of them go to the LLM.

    Precision, recall, F1: micro, all tags together; `_low`: lower bounds, at the level that the band was tested at.
    `proven`: both bounds reach the target, and so do those of all bands before it in its sequence. `chosen`: it is the
    band that is labelled with. `whole`: in the conversations asked about the LLM decides all its tags.
    """

    low: float
    high: float
    conversations: int
    asked: int
    precision: float
    recall: float
    f1: float
    precision_low: float
    recall_low: float
    whole: bool
    proven: bool = False
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """Calibration gold with both labellers' decisions: n conversations x t tags; the student has not seen them.

    `answered` (n,) by the LLM, usably; `told` (n,): and it did not say that it cannot tell.
    """

    gold: BoolArray
    probabilities: FloatArray
    student: BoolArray
    llm: BoolArray
    answered: BoolArray
    told: BoolArray

    def at(self, rows: BoolArray | npt.NDArray[np.int64]) -> Tried:
        """Some of the conversations, by a mask or their places."""
        return Tried(
            self.gold[rows],
            self.probabilities[rows],
            self.student[rows],
            self.llm[rows],
            self.answered[rows],
            self.told[rows],
        )


def ratio_lower_bound(right: npt.NDArray[np.int64], of: npt.NDArray[np.int64], level: float) -> float:
    """Lower bound of sum(right) / sum(of) over n conversations, wrong with probability `level`: see the module."""
    hits, trials, n = int(right.sum()), int(of.sum()), len(right)
    if not hits or n < 2:
        return 0.0
    rate = hits / trials
    spread = float(np.sqrt(n / (n - 1) * np.square(right - rate * of).sum())) / trials
    by_conversation = rate - float(student_t.ppf(1 - level, n - 1)) * spread
    return max(0.0, min(lower_bound(hits, trials, level), by_conversation))


def cost_curve(
    tried: Tried, promised: Sequence[Promise], target: Target, configured: Band, *, decides: BoolArray
) -> tuple[CostPoint, ...]:
    """One point for each band of `GRID` and for the one of the settings, the widest first; nothing where no tag is the
    LLM's.

    Args:
        tried: n conversations, t tags; those that the LLM did not answer are left out.
        promised: of t tags; promised ones keep the thresholds that were proven, whatever the band.
        target: precision and recall over all tags together, and the confidence of `proven`.
        configured: low and high end of the settings' band; it is a sequence of its own.
        decides: (t,), the tags that the LLM decides tonight.
    """
    if not decides.any() or tried.answered.sum() < FOLDS:
        return ()
    seen = tried.at(tried.answered)
    kept = np.array([promise.promised != "none" for promise in promised], np.bool_)
    trusted = trust_of_others(seen.gold, seen.student, seen.llm, folds=FOLDS)
    trusted |= np.array([promise.promised == "cascade" for promise in promised], np.bool_)
    sequences = [GRID[start:] for start in STARTS] + [(configured,)]
    level = (1 - target.confidence) / len(sequences)

    def outcome(band: Band, whole: bool) -> tuple[BoolArray, BoolArray]:
        return cascade_on(seen, Bands.of(promised, *band), trusted, trusted & ~kept & whole)

    errors = [int((outcome(configured, whole)[1] != seen.gold).sum()) for whole in (False, True)]
    whole = errors[True] < errors[False]
    found = {
        band: _point(band, seen.gold, *outcome(band, whole), whole=whole, level=level) for band in (*GRID, configured)
    }
    proven: set[Band] = set()
    for sequence in sequences:
        for band in sequence:
            if found[band].precision_low < target.precision or found[band].recall_low < target.recall:
                break
            proven.add(band)
    widest_first = sorted(found, key=lambda band: (band[0] - band[1], band))
    return tuple(replace(found[band], proven=band in proven) for band in widest_first)


def cascade_on(seen: Tried, bands: Bands, trusted: BoolArray, whole: BoolArray) -> tuple[BoolArray, BoolArray]:
    """(n, t) what the LLM is asked to decide, and what student and LLM decide together; the LLM answered everything.

    Args:
        trusted: (t,) or (n, t), the tags that the LLM may decide.
        whole: the same shape, those of them that it decides in every conversation that it is asked about.
    """
    doubted = bands.unsure(seen.probabilities) & trusted
    asked = whole_conversations(doubted, whole & seen.told[:, np.newaxis])
    return asked, np.where(asked, seen.llm, bands.decided(seen.probabilities, seen.student))


def _point(
    band: Band, gold: BoolArray, asked: BoolArray, decided: BoolArray, *, whole: bool, level: float
) -> CostPoint:
    right, said, support = (part.sum(axis=1) for part in (gold & decided, decided, gold))
    micro = figures(float(right.sum()), float(said.sum()), float(support.sum()))
    bounds = ratio_lower_bound(right, said, level), ratio_lower_bound(right, support, level)
    asked_about = int(asked.any(axis=1).sum())
    return CostPoint(*band, len(gold), asked_about, micro.precision, micro.recall, micro.f1, *bounds, whole)


def cheapest(points: Sequence[CostPoint]) -> CostPoint | None:
    """The proven band that asks least, of equals the widest; None where none is proven."""
    return min((point for point in points if point.proven), key=lambda point: point.asked, default=None)


@dataclass(frozen=True, slots=True)
class Choice:
    """How the night is labelled: the band, whether whole conversations are the LLM's, and all points, one marked."""

    band: Band
    whole: bool
    points: tuple[CostPoint, ...]

    def whole_tags(self, promised: Sequence[Promise], decides: Collection[str]) -> frozenset[str]:
        """The LLM's tags that it decides in whole conversations: promised ones keep to their thresholds."""
        if not self.whole:
            return frozenset()
        return frozenset(promise.tag_id for promise in promised if promise.promised == "none") & frozenset(decides)


def choose_band(points: Sequence[CostPoint], configured: Band, choice: Literal["fixed", "proven"]) -> Choice:
    """The band of the settings, or with `proven` the cheapest proven one where there is one."""
    best = cheapest(points) if choice == "proven" else None
    band = configured if best is None else (best.low, best.high)
    marked = tuple(replace(point, chosen=(point.low, point.high) == band) for point in points)
    return Choice(band, any(point.whole for point in points), marked)
