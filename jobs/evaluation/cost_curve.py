"""What asking more costs and wins: the cascade on held-out gold, for wider and wider bands of doubt.

`label.unsure_low` and `label.unsure_high` say where the student is unsure. A narrow band asks little and leaves the
student's mistakes where it was sure; a wide one asks nearly everything and labels as well as the LLM. Gold held out
from the student, which the LLM has answered anyway when it was tried, shows the whole trade before a night is paid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.cascade import Bands, BoolArray, FloatArray, combine
from jobs.metrics import figures

LOWS = (0.3, 0.2, 0.1, 0.05, 0.02, 0.0)
"""Lower ends of the bands; the upper end is as far from 1."""


@dataclass(frozen=True, slots=True)
class CostPoint:
    """With the student unsure between `low` and `high`, `asked` of `conversations` go to the LLM; micro figures."""

    low: float
    high: float
    conversations: int
    asked: int
    precision: float
    recall: float
    f1: float


def cost_curve(
    gold: BoolArray,
    probabilities: FloatArray,
    student: BoolArray,
    llm: BoolArray,
    *,
    answered: BoolArray,
    decides: BoolArray,
) -> tuple[CostPoint, ...]:
    """The cascade on n held-out conversations, t tags; nothing where no tag is the LLM's.

    As if nothing were promised: a promised tag keeps the thresholds that were proven, whatever the band.

    Args:
        gold, student, llm: (n, t) decisions; the student has not seen these conversations.
        probabilities: (n, t) of the student.
        answered: (n,), which the LLM answered usably; the others are left out.
        decides: (t,), the tags that the LLM decides. They were chosen on these very conversations, so the figures are
            a little optimistic.
    """
    if not decides.any() or not answered.any():
        return ()
    truth, sure, said = gold[answered], student[answered], llm[answered]
    found: list[CostPoint] = []
    for low in LOWS:
        asked = Bands.plain(len(decides), low, 1 - low).unsure(probabilities[answered]) & decides
        rows = asked.any(axis=1)
        decided = combine(sure, said, np.ones(len(truth), np.bool_), asked, decides)
        point = figures(float((truth & decided).sum()), float(decided.sum()), float(truth.sum()))
        found.append(CostPoint(low, 1 - low, len(truth), int(rows.sum()), point.precision, point.recall, point.f1))
    return tuple(found)
