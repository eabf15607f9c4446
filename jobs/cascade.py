"""The cascade's two questions: where is the student unsure, and which tags may the LLM then decide?

The LLM has to earn its say: on calibration gold both labellers answer everything, and a tag goes to the LLM only
where it makes fewer errors (false positives and false negatives) than the student on the same conversations. Ties
go to the student, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

MINIMUM_ANSWERED = 0.8
"""Share of calibration conversations that the LLM must answer usably before it may decide anything."""


@dataclass(frozen=True, slots=True)
class TagTrust:
    """Whether the LLM may decide a tag, with the counts that say so. `llm_precision` is add-one smoothed."""

    tag_id: str
    compared: int
    support: int
    student_errors: int
    llm_errors: int
    llm_precision: float
    llm_decides: bool
    reason: str


def unsure(probabilities: FloatArray, low: float, high: float) -> BoolArray:
    """Where a calibrated probability says neither yes nor no: strictly between `low` and `high`, any shape."""
    return (probabilities > low) & (probabilities < high)


def llm_trust(
    tag_ids: Sequence[str], gold: BoolArray, student: BoolArray, llm: BoolArray, answered: BoolArray
) -> list[TagTrust]:
    """Which tags the LLM may decide.

    Args:
        tag_ids: t tags.
        gold, student, llm: n conversations x t tags, all on the same calibration conversations.
        answered: n, whether the LLM gave a usable answer; only these are compared.
    """
    n = int(answered.sum())
    share = n / len(answered) if len(answered) else 0.0
    found = []
    for i, tag_id in enumerate(tag_ids):
        truth, by_student, by_llm = gold[answered, i], student[answered, i], llm[answered, i]
        student_errors, llm_errors = int((by_student != truth).sum()), int((by_llm != truth).sum())
        precision = (int((by_llm & truth).sum()) + 1) / (int(by_llm.sum()) + 2)
        decides = share >= MINIMUM_ANSWERED and llm_errors < student_errors
        if share < MINIMUM_ANSWERED:
            reason = f"the LLM answered {n} of {len(answered)} calibration conversations usably"
        else:
            better = "fewer" if decides else "no fewer"
            reason = f"the LLM makes {better} errors than the student: {llm_errors} against {student_errors}"
        found.append(TagTrust(tag_id, n, int(truth.sum()), student_errors, llm_errors, precision, decides, reason))
    return found


def combine(student: BoolArray, llm: BoolArray, answered: BoolArray, asked: BoolArray, decides: BoolArray) -> BoolArray:
    """Final decisions, n x t: the LLM's where the student was unsure (`asked`), answered, and may decide the tag."""
    take = asked & decides[np.newaxis, :] & answered[:, np.newaxis]
    return np.where(take, llm, student)
