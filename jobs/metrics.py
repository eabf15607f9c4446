"""Multi-label precision, recall and F1 with intervals.

Conventions where a denominator is 0: precision is 0 if nothing was predicted although the tag occurs in gold, recall
is 0 if the tag does not occur in gold but was predicted; a tag that neither gold nor prediction holds scores 0 with
support 0. `macro` is the mean over tags that occur in gold or in a prediction: tags nobody uses neither help nor hurt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from jobs.guarantee import lower_bound

Bools = npt.NDArray[np.bool_]

DRAWN_AT_ONCE = 20_000_000
"""So many numbers of the bootstrap are held at once, eight bytes each; how many does not change what is drawn."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Precision, recall and F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class TagFigures:
    """One tag: point figures, the counts behind them, and interval ends in [0, 1]; `support` is gold occurrences."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int
    true_positives: int
    precision_low: float
    precision_high: float
    recall_low: float
    recall_high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """Low and high end in [0, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MicroIntervals:
    """Intervals of the micro figures."""

    precision: Interval
    recall: Interval
    f1: Interval


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of one comparison."""

    micro: Figures
    macro: Figures
    tags: dict[str, TagFigures]
    conversations: int


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def figures(true_positives: float, predicted: float, support: float) -> Figures:
    """Precision, recall, F1 from counts; 0 where a denominator is 0."""
    return Figures(
        _ratio(true_positives, predicted),
        _ratio(true_positives, support),
        _ratio(2 * true_positives, predicted + support),
    )


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (Wilson 1927, "Probable inference, the law of succession, and statistical inference",
    JASA 22; recommended for small n by Brown, Cai & DasGupta 2001, Statistical Science 16). Without trials: [0, 1]."""
    if trials == 0:
        return Interval(0.0, 1.0)
    found = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def exact(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact binomial interval (Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26). Without trials: [0, 1]."""
    tail = (1 - confidence) / 2
    return Interval(lower_bound(successes, trials, tail), 1 - lower_bound(trials - successes, trials, tail))


def _check(gold: Bools, predicted: Bools, tags: Sequence[str]) -> None:
    if gold.shape != predicted.shape or gold.ndim != 2 or gold.shape[1] != len(tags):
        raise ValueError(f"gold {gold.shape} and predicted {predicted.shape} must both be (n, {len(tags)})")


def score_matrix(gold: Bools, predicted: Bools, tags: Sequence[str], confidence: float = 0.95) -> Scores:
    """Figures of (n, t) decisions against (n, t) gold.

    Raises:
        ValueError: the shapes do not fit one another or `tags`.
    """
    _check(gold, predicted, tags)
    hits = (gold & predicted).sum(axis=0)
    said, support = predicted.sum(axis=0), gold.sum(axis=0)
    found: dict[str, TagFigures] = {}
    for i, tag in enumerate(tags):
        tp, n_said, n_gold = int(hits[i]), int(said[i]), int(support[i])
        point = figures(tp, n_said, n_gold)
        p, r = wilson(tp, n_said, confidence), wilson(tp, n_gold, confidence)
        found[tag] = TagFigures(
            point.precision, point.recall, point.f1, n_gold, n_said, tp, p.low, p.high, r.low, r.high
        )
    used = [entry for entry in found.values() if entry.support or entry.predicted]
    macro = Figures(
        _ratio(sum(entry.precision for entry in used), len(used)),
        _ratio(sum(entry.recall for entry in used), len(used)),
        _ratio(sum(entry.f1 for entry in used), len(used)),
    )
    micro = figures(float(hits.sum()), float(said.sum()), float(support.sum()))
    return Scores(micro, macro, found, len(gold))


def resampled(counts: npt.NDArray[np.int64], *, rounds: int, seed: int) -> npt.NDArray[np.float64]:
    """(rounds, k) sums of `counts` (n, k) over n rows drawn with replacement, n at least 1: the bootstrap's draws."""
    generator, n = np.random.default_rng(seed), len(counts)
    shares, step = np.full(n, 1 / n), max(1, DRAWN_AT_ONCE // n)
    sizes = [min(step, rounds - start) for start in range(0, rounds, step)]
    drawn = [generator.multinomial(n, shares, size=size) @ counts for size in sizes]
    return np.concatenate(drawn).astype(np.float64)


def percentile_interval(values: npt.NDArray[np.float64], confidence: float) -> Interval:
    """The middle share `confidence` of bootstrap `values`."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def micro_intervals(
    gold: Bools,
    predicted: Bools,
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    rounds: int = 2_000,
    seed: int = 17,
) -> MicroIntervals:
    """Intervals of the micro figures: of each end the wider one of the percentile bootstrap and the exact binomial.

    The bootstrap (Efron & Tibshirani 1993, chapter 13) draws whole conversations, or whole `groups` (one name a
    conversation, e.g. its customer) where several conversations of one customer are alike; tags of one conversation are
    never drawn apart. It does not see the error that has not been made yet: one right tag alone would be [1, 1]. The
    exact interval sees it, and takes tags for independent. F1's is that of the right among all tags given or missed
    (Jaccard's J, F1 = 2J / (1 + J)).

    Raises:
        ValueError: shapes or the number of groups do not fit.
    """
    _check(gold, predicted, [""] * gold.shape[-1])
    counts = np.stack([(gold & predicted).sum(axis=1), predicted.sum(axis=1), gold.sum(axis=1)], axis=1)
    if groups is not None:
        if len(groups) != len(gold):
            raise ValueError(f"{len(groups)} groups for {len(gold)} conversations")
        _, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        summed = np.zeros((int(place.max(initial=-1)) + 1, 3), dtype=counts.dtype)
        np.add.at(summed, place, counts)
        counts = summed
    if not len(counts):
        nothing = Interval(0.0, 1.0)
        return MicroIntervals(nothing, nothing, nothing)
    tp, said, support = resampled(counts, rounds=rounds, seed=seed).T
    right, given, wanted = (int(total) for total in counts.sum(axis=0))
    share = exact(right, given + wanted - right, confidence)

    def interval(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64], binomial: Interval) -> Interval:
        values = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        drawn = percentile_interval(values, confidence)
        return Interval(min(drawn.low, binomial.low), max(drawn.high, binomial.high))

    return MicroIntervals(
        interval(tp, said, exact(right, given, confidence)),
        interval(tp, support, exact(right, wanted, confidence)),
        interval(2 * tp, said + support, Interval(*(2 * end / (1 + end) for end in (share.low, share.high)))),
    )
