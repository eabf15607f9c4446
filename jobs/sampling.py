"""Samples that stand for a population: every stratum its share, and within a stratum what differs most.

Within a stratum: k-centre greedy (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance", TCS 38),
which picks, again and again, what is farthest from everything picked. Repeated mass messages differ by nothing and are
picked once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float32]


def allocate(populations: Mapping[str, int], size: int) -> dict[str, int]:
    """How many to take from each stratum: by its share, largest remainders first, at least one where there is room."""
    total = sum(populations.values())
    if not total:
        return {}
    size = min(size, total)
    exact = {name: size * count / total for name, count in populations.items()}
    taken = {name: min(populations[name], int(value)) for name, value in exact.items()}
    if size >= len(populations):
        taken = {name: max(1, count) for name, count in taken.items()}
    order = sorted(populations, key=lambda name: (taken[name] - exact[name], name))
    while (short := size - sum(taken.values())) != 0:
        step = 1 if short > 0 else -1
        names = order if short > 0 else order[::-1]
        movable = [n for n in names if (taken[n] < populations[n] if step > 0 else taken[n] > 1)]
        if not movable:
            break
        for name in movable[: abs(short)]:
            taken[name] += step
    return taken


def farthest_first(vectors: FloatArray, size: int, seed: int) -> list[int]:
    """Rows of `vectors` (n, d) in the order picked: a seeded start, then always the row farthest from those picked.

    Rows that equal a picked one are only picked when nothing else is left.
    """
    n = len(vectors)
    if size >= n:
        return list(range(n))
    first = int(np.random.default_rng(seed).integers(n))
    picked = [first]
    distance = np.square(vectors - vectors[first]).sum(axis=1)
    while len(picked) < size:
        distance[picked[-1]] = -1.0
        new = int(distance.argmax())
        picked.append(new)
        distance = np.minimum(distance, np.square(vectors - vectors[new]).sum(axis=1))
    return picked


def stratified_diverse(
    frame: pd.DataFrame, populations: Mapping[str, int], vectors: FloatArray, size: int, seed: int
) -> pd.DataFrame:
    """Choose a sample.

    Args:
        frame: candidates with a column `stratum`; may be fewer than the population (drawn at random before).
        populations: how many conversations each stratum holds in all.
        vectors: (len(frame), d) embeddings, parallel to `frame`.
        size: how many to choose in all.
        seed: the same seed, the same sample.

    Returns:
        The chosen rows with `stratum_population` and `weight`, the number of conversations each stands for.
    """
    chosen = []
    for number, (name, count) in enumerate(sorted(allocate(populations, size).items())):
        rows = np.flatnonzero((frame["stratum"] == name).to_numpy())
        picked = rows[farthest_first(vectors[rows], min(count, len(rows)), seed + number)] if count else rows[:0]
        part = frame.iloc[np.sort(picked)].copy()
        part["stratum_population"] = populations[name]
        part["weight"] = populations[name] / max(len(part), 1)
        chosen.append(part)
    return pd.concat(chosen, ignore_index=True)
