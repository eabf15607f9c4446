"""Which conversations and tags a student learns from, and whether some conversations carry none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.student.training import gold_matrix

Bools = npt.NDArray[np.bool_]
MIN_EXAMPLES = 2
"""A tag with fewer conversations is not learned."""


@dataclass(frozen=True, slots=True)
class Material:
    """n conversations to learn from, their (n, t) `gold` of the tags at the places `learnt` (t,).

    `exclusive`: none has two of them; `none_column`: and some have no tag at all, which is then learned as well.
    """

    labelled: list[Conversation]
    gold: Bools
    learnt: npt.NDArray[np.intp]
    exclusive: bool
    none_column: bool


def material(train: Sequence[Conversation], tags: Sequence[str]) -> Material:
    """What there is to learn about `tags` in the labelled conversations of `train`.

    Raises:
        InputError: no labelled conversation, no customer turn, or no tag with two examples.
    """
    labelled = [c for c in train if c.labels is not None]
    gold = gold_matrix(labelled, tags)
    learnt = np.flatnonzero(gold.sum(axis=0) >= MIN_EXAMPLES)
    _check_trainable(labelled, len(learnt))
    untagged = ~gold.any(axis=1)
    gold = gold[:, learnt]
    exclusive = len(learnt) > 1 and int(gold.sum(axis=1).max()) <= 1
    none_column = exclusive and bool(untagged.any())
    if exclusive and not none_column:
        # A conversation with a tag too rare to learn is no sign that some have none: it teaches nothing here.
        kept = np.flatnonzero(gold.any(axis=1))
        labelled, gold = [labelled[i] for i in kept.tolist()], gold[kept]
    return Material(labelled, gold, learnt, exclusive, none_column)


def _check_trainable(labelled: Sequence[Conversation], tags: int) -> None:
    """Whether there is anything to learn: `tags` is how many have examples enough."""
    if not labelled or not tags:
        raise InputError("training data: no tag has two labelled conversations; label more conversations")
    if not any(text.strip() for c in labelled for _, text in c.customer_turns):
        raise InputError("training data: no turn has the speaker `customer`; that side is the one that is tagged")
