"""`compare`: is one labelling better than another, on the very same conversations?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from jobs.conversation import Conversation, read_conversations
from jobs.errors import InputError
from jobs.evaluation.flips import Labelling, read_labelling
from jobs.metrics import Interval, figures, percentile_interval, resampled

ROUNDS = 5_000
"""Draws of the bootstrap: the ends of an interval are steady to a tenth of a point."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Micro F1 of two labellings of the same gold; `difference` is the second's less the first's, with an interval.

    `first_alone` labels are right in the first labelling and wrong in the second, `second_alone` the other way round;
    a label is one decision about one tag of one conversation. `p_value`: of the sign test over conversations, where
    `better` have fewer wrong labels in the second and `worse` more.
    """

    conversations: int
    first: float
    second: float
    difference: float
    interval: Interval
    first_alone: int
    second_alone: int
    better: int
    worse: int
    p_value: float


def _counts(said: Labelling, gold: Labelling, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """(n, 3): right, said and gold labels of each conversation."""
    rows = [(len(said[name] & gold[name]), len(said[name]), len(gold[name])) for name in names]
    return np.array(rows, dtype=np.int64)


def paired_difference(
    gold: Labelling, first: Labelling, second: Labelling, *, confidence: float = 0.95, seed: int = 17
) -> Comparison:
    """The difference of micro F1, with a paired percentile bootstrap over conversations.

    Both labellings are scored on the same draws (Berg-Kirkpatrick, Burkett & Klein 2012, "An empirical investigation
    of statistical significance in NLP", EMNLP), so what is hard for both of them does not blur the difference.

    Raises:
        InputError: the three are not of the same conversations, or of none.
    """
    for other in (first, second):
        if not gold or gold.keys() != other.keys():
            odd = len(gold.keys() ^ other.keys())
            raise InputError(f"gold and predictions must be of the same conversations: {odd} are in one of them only")
    names = sorted(gold)
    counts = np.stack([_counts(said, gold, names) for said in (first, second)], axis=2)
    totals = resampled(counts.reshape(len(names), 6), rounds=ROUNDS, seed=seed).reshape(ROUNDS, 3, 2)
    whole = totals[:, 1] + totals[:, 2]
    scores = np.divide(2 * totals[:, 0], whole, out=np.zeros_like(whole), where=whole > 0)
    points = [figures(*map(float, counts[:, :, side].sum(axis=0))).f1 for side in (0, 1)]
    wrong = [[gold[name] ^ said[name] for name in names] for said in (first, second)]
    pairs = list(zip(*wrong, strict=True))
    better = sum(len(b) < len(a) for a, b in pairs)
    worse = sum(len(b) > len(a) for a, b in pairs)
    return Comparison(
        conversations=len(names),
        first=points[0],
        second=points[1],
        difference=points[1] - points[0],
        interval=percentile_interval(scores[:, 1] - scores[:, 0], confidence),
        first_alone=sum(len(b - a) for a, b in pairs),
        second_alone=sum(len(a - b) for a, b in pairs),
        better=better,
        worse=worse,
        p_value=float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
    )


def gold_labelling(conversations: Sequence[Conversation]) -> dict[str, frozenset[str]]:
    """Labels by conversation.

    Raises:
        InputError: one has none (an empty list is a label: no tag).
    """
    found: dict[str, frozenset[str]] = {}
    for conversation in conversations:
        if conversation.labels is None:
            raise InputError(f"{conversation.conversation_id}: no labels; TEST must be labelled to compare by it")
        found[conversation.conversation_id] = frozenset(conversation.labels)
    return found


def compare(test: Path, before: Path, after: Path, confidence: float) -> dict[str, Any]:
    """Compare two `predictions.jsonl` by the labels of TEST; what is returned fits into JSON."""
    gold = gold_labelling(read_conversations(test))
    first, second = read_labelling(before), read_labelling(after)
    return asdict(paired_difference(gold, first, second, confidence=confidence))
