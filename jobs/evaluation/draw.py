"""A seeded draw that keeps equal texts together: a labeller must not be asked what it has learned by heart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def draw_together(contents: Sequence[str], size: int, seed: int) -> set[int]:
    """`size` places of `contents`, drawn with `seed`; equal contents are drawn all or none.

    Where some are equal there may be fewer than `size`: what no longer fits stays out. Where none are, it is the first
    `size` of a permutation.
    """
    copies = Counter(contents)
    first: dict[str, int] = {}
    for place, content in enumerate(contents):
        first.setdefault(content, place)
    taken: set[str] = set()
    room = size
    for place in np.random.default_rng(seed).permutation(len(contents)).tolist():
        # A content has the turn of its first copy alone: with the earliest turn of any, copies would be drawn oftener.
        content = contents[place]
        if place == first[content] and copies[content] <= room:
            taken.add(content)
            room -= copies[content]
    return {place for place, content in enumerate(contents) if content in taken}
