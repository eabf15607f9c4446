"""A group as a namer sees it: its keywords, typical turns and the groups closest to it; and headings over groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize

from jobs.induction.cluster import Grouping, IntArray
from jobs.induction.features import FloatArray
from jobs.induction.keywords import group_keywords
from jobs.induction.turns import CustomerTurn

_EXAMPLES = 6
_WISHES = 3
_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True)
class Group:
    """`number` from 0 by falling size; `examples` are typical turns, most typical first; `neighbours` are numbers.

    `wishes`: what an LLM says that several of the turns want, with how many do, most first.
    """

    number: int
    size: int
    keywords: tuple[str, ...]
    examples: tuple[CustomerTurn, ...]
    neighbours: tuple[int, ...]
    wishes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    """A heading over the groups `members`; `parent` is the place of the heading above it, None at the top."""

    members: tuple[int, ...]
    parent: int | None = None


def centres_of(labels: IntArray, sentences: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Unit rows (n, d) of centred `sentences`, and the unit centres (g, d) of the groups in them."""
    unit = normalize(sentences - sentences.mean(axis=0, keepdims=True))
    groups = range(int(labels.max()) + 1)
    return unit, normalize(np.stack([unit[labels == number].mean(axis=0) for number in groups]))


def _commonest(wishes: Sequence[str | None]) -> tuple[tuple[str, int], ...]:
    counts = Counter(wish for wish in wishes if wish)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple((wish, turns) for wish, turns in ordered[:_WISHES] if turns > 1)


def describe(turns: Sequence[CustomerTurn], grouping: Grouping, sentences: FloatArray) -> list[Group]:
    """Describe each group of n turns; `sentences` (n, d) are their embeddings.

    Typical is what lies nearest to the group's centre and was placed with confidence; no text is given twice.
    """
    keywords = group_keywords([turn.core for turn in turns], grouping.labels.tolist())
    members = [np.flatnonzero(grouping.labels == number) for number in range(grouping.groups)]
    unit, centres = centres_of(grouping.labels, sentences)
    closeness = centres @ centres.T
    np.fill_diagonal(closeness, -np.inf)
    groups: list[Group] = []
    for number, rows in enumerate(members):
        typical = unit[rows] @ centres[number] + 0.5 * grouping.confidence[rows]
        order = rows[np.argsort(-typical, kind="stable")]
        examples = tuple({turns[i].core.lower(): turns[i] for i in order[: 4 * _EXAMPLES][::-1]}.values())[::-1]
        near = np.argsort(-closeness[number], kind="stable")[: min(_NEIGHBOURS, grouping.groups - 1)]
        groups.append(
            Group(
                number,
                len(rows),
                tuple(keywords[number]),
                examples[:_EXAMPLES],
                tuple(int(i) for i in near),
                _commonest([turns[i].wish for i in rows.tolist()]),
            )
        )
    return groups
