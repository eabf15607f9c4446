"""Do tags drift? The population stability index between earlier nights and tonight, with bootstrap intervals.

PSI = sum over the cells of (q - p) ln(q / p), p and q the shares before and now: a symmetric Kullback-Leibler
divergence (Jeffreys 1946), in the form that credit scoring made common (Siddiqi 2006), where under 0.1 counts as
stable and from 0.25 on as a shift. It grows by chance alone when nights are small (Yurdakul & Naranjo 2020), so the
value that no drift would exceed in 95 of 100 nights is worked out beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
TagSet = tuple[str, ...]

STABLE, SHIFTED = 0.1, 0.25
ROUNDS = 1_000
CHANCE = 0.95
SMOOTHING = 0.5
"""Added to every cell: a tag that was never given before would make the index infinite."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One comparison. `tag_id` is None for the whole distribution of tags.

    `before` and `now`: conversations with the tag, of `n_before` and `n_now`; for the whole distribution, tags given.
    `low` and `high`: interval of the bootstrap over conversations for the index of nights without end; it holds `psi`.
    `chance`: what the index stays under in 95 of 100 nights if nothing drifts.
    """

    tag_id: str | None
    before: int
    n_before: int
    now: int
    n_now: int
    psi: float
    low: float
    high: float
    chance: float

    @property
    def state(self) -> str:
        """`shifted` or `moved` where the index is beyond both chance and the usual borders, else `stable`."""
        if self.psi <= self.chance or self.psi < STABLE:
            return "stable"
        return "shifted" if self.psi >= SHIFTED else "moved"


def psi(before: Array, now: Array) -> Array:
    """The index of counts (..., k) before and now over k exclusive cells; shape (...)."""
    p, q = before + SMOOTHING, now + SMOOTHING
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def tag_drift(
    before: Mapping[TagSet, int], now: Mapping[TagSet, int], *, confidence: float = 0.95, seed: int = 17
) -> list[Drift]:
    """Tonight against earlier nights: the whole distribution first, then every tag, the most moved first.

    Args:
        before, now: how many conversations have exactly these tags (none: the empty tuple).

    Whole conversations are drawn (Efron & Tibshirani 1993), because tags of one conversation go together. Cells of the
    whole distribution are the tags, and "no tag"; of a single tag, having it and not. Empty where a side is empty.
    """
    sets = sorted(set(before) | set(now))
    tags = sorted({tag for tags in sets for tag in tags})
    counts = np.array([[side.get(tags, 0) for tags in sets] for side in (before, now)], dtype=np.float64)
    if not sets or not counts.sum(axis=1).all():
        return []
    member = np.array([[tag in s for tag in tags] + [not s] for s in sets], dtype=np.float64)
    generator = np.random.default_rng(seed)
    sizes = counts.sum(axis=1).astype(int)

    def draws(shares: tuple[Array, Array]) -> list[Array]:
        return [generator.multinomial(n, p, size=ROUNDS) @ member for n, p in zip(sizes, shares, strict=True)]

    pooled = counts.sum(axis=0) / counts.sum()
    own = draws((counts[0] / sizes[0], counts[1] / sizes[1]))
    same = draws((pooled, pooled))
    seen = counts @ member
    tail = (1 - confidence) / 2

    def compare(tag_id: str | None, columns: slice, totals: tuple[int, int] | None) -> Drift:
        def index(pair: Array | list[Array]) -> Array:
            cells = [side[..., columns] for side in pair]
            if totals is not None:
                cells = [np.stack([c[..., 0], n - c[..., 0]], axis=-1) for c, n in zip(cells, totals, strict=True)]
            return psi(cells[0], cells[1])

        value, drawn = float(index(seen)), index(own)
        # Chance adds to the index what it adds to its draws once more (Efron & Tibshirani 1993, chapter 10): off twice.
        shifted = np.quantile(drawn, [tail, 1 - tail]) - 2 * (drawn.mean() - value)
        low, high = np.maximum(shifted, 0.0)
        chance = float(np.quantile(index(same), CHANCE))
        given = seen[:, columns].sum(axis=1).astype(int)
        n = totals or (int(given[0]), int(given[1]))
        return Drift(tag_id, int(given[0]), n[0], int(given[1]), n[1], value, float(low), float(high), chance)

    whole = compare(None, slice(0, len(tags) + 1), None)
    single = [compare(tag, slice(i, i + 1), (int(sizes[0]), int(sizes[1]))) for i, tag in enumerate(tags)]
    return [whole, *sorted(single, key=lambda d: (-d.psi, d.tag_id or ""))]
