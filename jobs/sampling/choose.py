"""A sample of a bounded number of candidates: every stratum its share, and of what is left always what differs most.

k-centre greedy (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance", TCS 38) over all strata at
once, each of them giving no more than its quota: a wish that one channel has shown is not looked for in the next.
Whatever is left stands with the candidate it is nearest to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from jobs.sampling.essence import alike

FloatArray = npt.NDArray[np.float32]

NEAR_COPY = 0.9
"""Texts that share so many of their pieces say the same thing; of a short text one word is a fifth."""


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


def leaders(signatures: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """For each of n signatures (n, 32) the first row that says nearly the same; itself where there is none."""
    leader = np.arange(len(signatures))
    for row in range(len(signatures)):
        if leader[row] == row:
            later = np.flatnonzero(alike(signatures[row], signatures[row + 1 :]) >= NEAR_COPY) + row + 1
            leader[later[leader[later] == later]] = row
    return leader


def farthest_first(
    vectors: FloatArray, strata: Sequence[str], quotas: Mapping[str, int], size: int, first: int
) -> list[int]:
    """Rows of `vectors` (n, d) in the order picked: `first`, then always the row farthest from those picked.

    A stratum that has given its quota gives no more, unless all have and fewer than `size` rows are picked.
    """
    left = Counter(quotas)
    names = np.asarray(strata, dtype=object)
    open_rows = np.array([left[name] > 0 for name in strata], dtype=bool)
    untaken = np.ones(len(vectors), dtype=bool)
    distance = np.full(len(vectors), np.inf, dtype=np.float32)
    picked: list[int] = []
    while len(picked) < min(size, len(vectors)):
        allowed = untaken & open_rows
        if not allowed.any():
            allowed = untaken
        new = first if not picked and allowed[first] else int(np.where(allowed, distance, -1.0).argmax())
        picked.append(new)
        untaken[new] = False
        left[strata[new]] -= 1
        if left[strata[new]] == 0:
            open_rows &= names != strata[new]
        distance = np.minimum(distance, np.square(vectors - vectors[new]).sum(axis=1))
    return picked


def choose(
    frame: pd.DataFrame,
    vectors: FloatArray,
    signatures: npt.NDArray[np.uint32],
    quotas: Mapping[str, int],
    size: int,
) -> pd.DataFrame:
    """Choose a sample of at most `size`, no two of which say nearly the same.

    Args:
        frame: candidates with `stratum`, `copies` and `weight`, the number of conversations each was drawn for.
        vectors: (len(frame), d) embeddings, parallel to `frame`.
        signatures: (len(frame), 32) of `essence.signatures`, parallel to `frame`.
        quotas: how many each stratum should give.
        size: how many to choose in all.

    Returns:
        The chosen rows in the frame's order; `weight` is now the number of conversations that each stands for, those
        of all candidates nearest to it; `copies` includes near copies among the candidates.
    """
    leader = leaders(signatures)
    distinct = np.flatnonzero(leader == np.arange(len(frame)))
    names = frame["stratum"].astype(str).to_numpy()[distinct].tolist()
    weights = np.bincount(leader, frame["weight"], minlength=len(frame))
    copies = np.bincount(leader, frame["copies"], minlength=len(frame))
    heaviest = int(weights[distinct].argmax())
    picked = np.sort(distinct[farthest_first(vectors[distinct], names, quotas, size, heaviest)])
    # What says the same as a picked one goes with it: distances of half-precision vectors cannot send it elsewhere.
    nearest = (vectors[distinct] @ vectors[picked].T - np.square(vectors[picked]).sum(axis=1) / 2).argmax(axis=1)
    own = {row: place for place, row in enumerate(picked.tolist())}
    nearest = np.array([own.get(row, place) for row, place in zip(distinct.tolist(), nearest.tolist(), strict=True)])
    chosen = frame.iloc[picked].copy()
    chosen["weight"] = np.bincount(nearest, weights[distinct], minlength=len(picked))
    chosen["copies"] = copies[picked].astype(np.int64)
    return chosen.reset_index(drop=True)
