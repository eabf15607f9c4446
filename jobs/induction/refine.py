"""Which groups may be one wish, and which may be two: candidates from the data, for a judge to decide on.

The data alone decide nothing here. Cutting the vote lower or higher, or splitting wherever two halves are stable, is
wrong as often as right (docs/experiments-induction.md); so the data propose, the judge decides, and the data can veto.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from jobs.induction.cluster import IntArray
from jobs.induction.features import FloatArray
from jobs.induction.proposal import Naming

LEAST_AFFINITY = 0.03
"""Groups that fewer clusterings than this put together are not merged, whatever the judge says."""

CONTROL = "control"
"""Why a pair was looked at that is plainly two wishes."""

_LARGEST_MERGE = 3
_LEAST_STRENGTH = 0.7
_LEAST_HALF = 5
_STRENGTH_DRAWS = 6


@dataclass(frozen=True, slots=True)
class Pair:
    """Two groups by number, `first` the larger; `affinity` as in `Grouping`; `why` it was looked at."""

    first: int
    second: int
    affinity: float
    why: str


def _same_text(a: Naming, b: Naming) -> str:
    if a.name.casefold() == b.name.casefold():
        return "same name"
    return "same definition" if a.definition.casefold() == b.definition.casefold() else ""


def near_pairs(
    affinity: npt.NDArray[np.float64], numbers: Sequence[int], namings: Mapping[int, Naming], most: int
) -> list[Pair]:
    """At most `most` pairs of `numbers` that may be one wish: same name or definition first, then most votes."""
    found: list[Pair] = []
    for place, first in enumerate(numbers):
        for second in numbers[place + 1 :]:
            value = float(affinity[first, second])
            same = _same_text(namings[first], namings[second])
            if same or value >= LEAST_AFFINITY:
                found.append(Pair(first, second, value, same or "near"))
    return sorted(found, key=lambda pair: (pair.why == "near", -pair.affinity, pair.first, pair.second))[:most]


def far_pairs(
    affinity: npt.NDArray[np.float64], numbers: Sequence[int], candidates: Sequence[Pair], most: int = 2
) -> list[Pair]:
    """Pairs of large groups that no clustering confuses, none of the `candidates`, as controls.

    A judge who calls these one wish is not to be trusted.
    """
    asked = {(pair.first, pair.second) for pair in candidates}
    large = sorted(numbers)[:8]
    pairs = [
        Pair(a, b, float(affinity[a, b]), CONTROL)
        for i, a in enumerate(large)
        for b in large[i + 1 :]
        if affinity[a, b] < LEAST_AFFINITY and (a, b) not in asked
    ]
    return sorted(pairs, key=lambda p: (p.affinity, p.first, p.second))[:most]


def joined(pairs: Sequence[Pair]) -> dict[int, int]:
    """Group number to the number of the group it becomes part of, the strongest pairs first.

    Being one wish is not transitive in practice: no more than three groups become one, so that a chain of neighbours
    does not swallow a whole topic.
    """
    parts: dict[int, set[int]] = {}
    for pair in sorted(pairs, key=lambda p: (-p.affinity, p.first, p.second)):
        union = parts.get(pair.first, {pair.first}) | parts.get(pair.second, {pair.second})
        if len(union) <= _LARGEST_MERGE:
            for number in union:
                parts[number] = union
    return {number: min(union) for number, union in parts.items() if number != min(union)}


def _strength(rows: FloatArray, seed: int) -> float:
    """Prediction strength of two clusters (Tibshirani and Walther 2005, J. Comput. Graph. Stat. 14(3)), in 0..1.

    Half of the rows are clustered, the other half too; the strength is the share of pairs of the weaker cluster of the
    second half that the first half's centres keep together, averaged over random halves.
    """
    picker = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(_STRENGTH_DRAWS):
        order = picker.permutation(len(rows))
        train, test = rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
        foreign = KMeans(2, n_init=3, random_state=seed).fit(train).predict(test)
        own = KMeans(2, n_init=3, random_state=seed).fit_predict(test)
        found.append(min(_kept(foreign[own == cluster]) for cluster in (0, 1)))
    return float(np.mean(found))


def _kept(labels: npt.NDArray[np.int32]) -> float:
    count = len(labels)
    if count < 2:
        return 0.0
    sizes = np.bincount(labels)
    return float((sizes * (sizes - 1)).sum() / (count * (count - 1)))


def split_candidates(
    labels: IntArray, rows: FloatArray, seed: int, most: int, whole: Collection[int] = ()
) -> dict[int, npt.NDArray[np.bool_]]:
    """Groups that look bimodal, by number: which of the n turns form their second half. At most `most`, best first.

    `rows` (n, d) are features of the turns; groups in `whole` are left alone. Both halves must be large enough to be
    a tag.
    """
    found: list[tuple[float, int, npt.NDArray[np.bool_]]] = []
    for number in range(int(labels.max()) + 1) if most else ():
        members = np.flatnonzero(labels == number)
        if number in whole or len(members) < 4 * _LEAST_HALF or len(np.unique(rows[members], axis=0)) < 4:
            continue
        halves = KMeans(2, n_init=5, random_state=seed).fit_predict(rows[members])
        if np.bincount(halves, minlength=2).min() < _LEAST_HALF:
            continue
        strength = _strength(rows[members], seed)
        if strength >= _LEAST_STRENGTH:
            second = np.zeros(len(labels), dtype=bool)
            second[members[halves != np.bincount(halves).argmax()]] = True
            found.append((strength, number, second))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    return {number: second for _, number, second in found[:most]}
