"""Which groups may be one wish: candidates from the data, for a judge to decide on, and what follows from his word.

The data alone do not know: cutting the vote lower or higher is wrong as often as right. But groups cut fine are pure,
and a judge who is right about nine pairs in ten puts them together far better than any cut does
(docs/experiments-induction.md). So the data propose, the judge decides, and the data can veto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.induction.proposal import Naming

LEAST_AFFINITY = 0.03
"""Groups that fewer clusterings than this put together are not merged, whatever the judge says."""

CONTROL = "control"
"""Why a pair was looked at that is plainly two wishes."""

TWIN = "twin"
"""Why a pair was looked at that is plainly one wish: two halves of one group."""

_NEAREST = 3
_CONTROLS = 8


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
    """At most `most` pairs of `numbers` that may be one wish: same name or definition first, then most votes.

    Of the others each group stands beside the three that share most votes with it: asked about more pairs, a judge who
    errs on one in ten merges more strangers than relatives (docs/experiments-induction.md).
    """
    chosen = np.array(numbers, dtype=np.int64)
    near: set[tuple[int, int]] = set()
    for first in numbers:
        others = chosen[chosen != first]
        for second in others[np.argsort(-affinity[first, others], kind="stable")][:_NEAREST].tolist():
            near.add((min(first, second), max(first, second)))
    found: list[Pair] = []
    for place, first in enumerate(numbers):
        for second in numbers[place + 1 :]:
            value = float(affinity[first, second])
            same = _same_text(namings[first], namings[second])
            if same or (value >= LEAST_AFFINITY and (first, second) in near):
                found.append(Pair(first, second, value, same or "near"))
    return sorted(found, key=lambda pair: (pair.why == "near", -pair.affinity, pair.first, pair.second))[:most]


def far_pairs(
    affinity: npt.NDArray[np.float64], numbers: Sequence[int], namings: Mapping[int, Naming], most: int = _CONTROLS
) -> list[Pair]:
    """Pairs of large groups that no clustering confuses and that are not namesakes, as controls.

    A judge who calls these one wish is not to be trusted.
    """
    large = sorted(numbers)[:8]
    pairs = [
        Pair(a, b, float(affinity[a, b]), CONTROL)
        for i, a in enumerate(large)
        for b in large[i + 1 :]
        if affinity[a, b] < LEAST_AFFINITY and not _same_text(namings[a], namings[b])
    ]
    return sorted(pairs, key=lambda p: (p.affinity, p.first, p.second))[:most]


def joined(count: int, verdicts: Mapping[tuple[int, int], bool]) -> dict[int, int]:
    """Group number to the number of the group it becomes part of, by verdicts about pairs of `count` groups.

    Being one wish is not transitive in practice, and judges err: two parts become one, those with the most agreement
    first, where most of the verdicts between their groups say so. One wrong verdict joins no chains of neighbours.
    """
    parts: dict[int, list[int]] = {number: [number] for number in range(count)}
    while True:
        best: tuple[float, int] = (0.5, 0)
        chosen: tuple[int, int] | None = None
        numbers = sorted(parts)
        for place, first in enumerate(numbers):
            for second in numbers[place + 1 :]:
                said = [
                    verdicts[pair]
                    for a in parts[first]
                    for b in parts[second]
                    if (pair := (min(a, b), max(a, b))) in verdicts
                ]
                share = (sum(said) / len(said), len(said)) if said else best
                if share[0] > 0.5 and share > best:
                    best, chosen = share, (first, second)
        if chosen is None:
            return {member: number for number, members in parts.items() for member in members if member != number}
        parts[chosen[0]] += parts.pop(chosen[1])
