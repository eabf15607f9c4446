"""Groups of turns without gold: many clusterings vote, and the votes decide how many groups there are.

Evidence accumulation (Fred and Jain 2005, "Combining multiple clusterings using evidence accumulation", IEEE TPAMI
27(6)): each clustering votes for the pairs it puts together, and average linkage over the share of votes is cut. Where:
among vectors of a good sentence model at the best index of Davies and Bouldin (1979, IEEE TPAMI 1(2)) over the views
that voted; among those of a small one no such index finds the number of groups, and the cut is where two groups agree
on fewer than three in ten (docs/experiments-induction.md has both). Reduction by UMAP (McInnes et al. 2018,
arXiv:1802.03426), density clusters by HDBSCAN (Campello et al. 2013).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import davies_bouldin_score
from sklearn.preprocessing import scale

from jobs.induction.features import FloatArray

IntArray = npt.NDArray[np.int64]
Progress = Callable[[str], None]

_GROUP_COUNTS = (8, 10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 58, 70)
_DENSITY_SIZES = (5, 8, 12, 20)
_REDUCED_DIMENSIONS = 10
_NEIGHBOURS = 15
_REDUCTIONS = 3
_CUT = 0.7
_FINE_CUT = 0.5
_CUTS = tuple(round(0.30 + 0.01 * step, 2) for step in range(66))
_SMALLEST = 5
_SMALLEST_SHARE = 0.006


@dataclass(frozen=True, slots=True)
class Grouping:
    """`labels` (n,) from 0 by falling size; `confidence` (n,) in 0..1: votes for the own group less the next best.

    `affinity` (g, g): share of the clusterings that put a turn of one group with a turn of the other, on average; none
    where nothing was voted. `fine`: the same votes cut where two groups agree on fewer than half, or these groups where
    that would be fewer: purer groups, of which several may be one wish; for a judge who can tell.
    """

    labels: IntArray
    confidence: npt.NDArray[np.float64]
    affinity: npt.NDArray[np.float64] | None = None
    fine: Grouping | None = None

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.labels.max()) + 1


def _reduce(view: FloatArray, seed: int) -> FloatArray:
    """UMAP to ten dimensions at unit spread; sets too small for its spectral start stay as they are."""
    if len(view) <= _NEIGHBOURS + _REDUCED_DIMENSIONS:
        return view
    from umap import UMAP  # imports numba: seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated turns make a graph of several components: expected
        reduced = UMAP(
            n_components=_REDUCED_DIMENSIONS,
            n_neighbors=_NEIGHBOURS,
            min_dist=0.0,
            metric="cosine",
            random_state=seed,
            n_jobs=1,  # more than one would make the result depend on timing
        ).fit_transform(view)
    reduced = np.nan_to_num(np.asarray(reduced, dtype=np.float32))
    return np.asarray(reduced / max(float(reduced.std()), 1e-6), dtype=np.float32)


def _ballots(reduced: Sequence[FloatArray], seed: int) -> Iterator[IntArray]:
    """Clusterings of every kind on every view; -1 is a turn that one of them puts nowhere."""
    turns = len(reduced[0])
    for number, space in enumerate(reduced):
        distinct = len(np.unique(space, axis=0))
        for count in _GROUP_COUNTS:
            if count < min(distinct, turns // 3):
                yield KMeans(count, n_init=1, random_state=seed + number).fit_predict(space).astype(np.int64)
        for size in _DENSITY_SIZES:
            if size <= turns // 3:
                clusters = HDBSCAN(min_cluster_size=size, min_samples=3, copy=True).fit_predict(space)
                yield clusters.astype(np.int64)


def _agreement(ballots: Iterator[IntArray], turns: int) -> tuple[npt.NDArray[np.float32], int]:
    """(n, n) share of clusterings that put two turns together, and how many clusterings there were."""
    votes = np.zeros((turns, turns), dtype=np.float32)
    count = 0
    for ballot in ballots:
        together = ballot[:, None] == ballot[None, :]
        together &= (ballot >= 0)[:, None]
        votes += together
        count += 1
    if count:
        votes /= count
    np.fill_diagonal(votes, 1.0)
    return votes, count


def _settle(votes: npt.NDArray[np.float32], cut: IntArray) -> Grouping:
    """Groups too small to be a tag dissolve; each turn goes where most votes pull it."""
    ids, sizes = np.unique(cut, return_counts=True)
    smallest = max(_SMALLEST, round(_SMALLEST_SHARE * len(cut)))
    kept = ids[sizes >= smallest]
    if not len(kept):
        kept = ids[sizes == sizes.max()][:1]
    pull = np.stack([votes[:, cut == group].mean(axis=1) for group in kept], axis=1)
    labels = pull.argmax(axis=1).astype(np.int64)
    best = np.sort(pull, axis=1)
    confidence = best[:, -1] - (best[:, -2] if best.shape[1] > 1 else 0.0)
    labels = by_size(labels)
    member = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    member /= member.sum(axis=0)
    affinity = (member.T @ votes @ member).astype(np.float64)
    return Grouping(labels, confidence.astype(np.float64), affinity)


def by_size(labels: IntArray) -> IntArray:
    """The same groups numbered from 0 by falling size, first seen first among equals."""
    ids, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = sorted(range(len(ids)), key=lambda i: (-int(sizes[i]), int(first[i])))
    number = {int(ids[i]): rank for rank, i in enumerate(order)}
    return np.array([number[int(label)] for label in labels], dtype=np.int64)


def _cut_at(votes: npt.NDArray[np.float32], tree: npt.NDArray[np.float64], distance: float) -> Grouping:
    """The groups whose turns agree, on average linkage, in more than 1 - `distance` of the clusterings."""
    return _settle(votes, fcluster(tree, distance, "distance").astype(np.int64))


def _cut_by_index(
    votes: npt.NDArray[np.float32], tree: npt.NDArray[np.float64], views: Sequence[FloatArray]
) -> Grouping:
    """Of all cuts the one whose settled groups have the least Davies-Bouldin index over the views, which count alike.

    Each view has its own scale of the index, so each is standardised over the cuts before they are added.
    """
    found = dict[int, Grouping]()
    for cut in _CUTS:
        settled = _cut_at(votes, tree, cut)
        if 2 <= settled.groups < len(votes):
            found.setdefault(settled.groups, settled)
    if not found:
        return _cut_at(votes, tree, _CUT)
    index = np.array([[davies_bouldin_score(view, one.labels) for view in views] for one in found.values()])
    return list(found.values())[int(scale(index).mean(axis=1).argmin())]


def group_turns(
    views: Sequence[FloatArray],
    seed: int,
    progress: Progress | None = None,
    *,
    count_groups: bool = False,
) -> Grouping:
    """Group n turns seen through several views, each (n, d); every turn gets a group.

    `count_groups`: the views hold vectors good enough to say how many groups there are; otherwise the cut is fixed.
    Memory grows with n squared (4 bytes a pair): the caller keeps n to a few thousand and hands the rest to `extend`.
    """
    turns = len(views[0])
    if turns < 2 * _SMALLEST:
        return Grouping(np.zeros(turns, dtype=np.int64), np.ones(turns))
    reduced = []
    for number, view in enumerate(views, 1):
        if progress:
            progress(f"reducing view {number} of {len(views)} over {turns} turns")
        # one draw of UMAP moves the accuracy of a set by up to eight points; several vote it out
        reduced += [_reduce(view, seed + draw) for draw in range(_REDUCTIONS)]
    votes, ballots = _agreement(_ballots(reduced, seed), turns)
    if progress:
        progress(f"{ballots} clusterings vote")
    if not ballots:
        return Grouping(np.zeros(turns, dtype=np.int64), np.ones(turns))
    tree = linkage(squareform(1.0 - votes, checks=False), "average")
    grouping = _cut_by_index(votes, tree, views) if count_groups else _cut_at(votes, tree, _CUT)
    fine = _cut_at(votes, tree, _FINE_CUT)
    # Where many tags are counted the fixed cut would be the coarser one, and a judge can only put together.
    return replace(grouping, fine=fine if fine.groups >= grouping.groups else grouping)


def extend(grouping: Grouping, known: FloatArray, rest: FloatArray, seed: int) -> tuple[IntArray, FloatArray]:
    """Groups for turns that took no part in the vote, by a classifier trained on the confident seven tenths of each.

    `known` (n, d) are the features of the grouped turns, `rest` (m, d) those of the others.

    Returns:
        (m,) group numbers and (m,) probabilities.
    """
    if grouping.groups == 1 or not len(rest):
        return np.zeros(len(rest), dtype=np.int64), np.ones(len(rest), dtype=np.float32)
    core = np.zeros(len(known), dtype=bool)
    for group in range(grouping.groups):
        members = np.flatnonzero(grouping.labels == group)
        order = members[np.argsort(-grouping.confidence[members], kind="stable")]
        core[order[: max(4, round(0.7 * len(order)))]] = True
    model = LogisticRegression(C=10, max_iter=200, random_state=seed)
    model.fit(known[core], grouping.labels[core])
    shares = model.predict_proba(rest)
    return model.classes_[shares.argmax(axis=1)].astype(np.int64), shares.max(axis=1).astype(np.float32)
