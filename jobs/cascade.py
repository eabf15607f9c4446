"""The cascade's two questions: where is the student unsure, and which tags may the LLM then decide?

The LLM has to earn its say: on calibration gold both labellers answer everything, and a tag goes to the LLM only
where it makes fewer errors (false positives and false negatives) than the student on the same conversations. Gold holds
two or three examples of a tag where there are many tags, so ties are common; they go to the labeller that makes
fewer errors over all tags, and to the student, which costs nothing, where that is a tie, too. Gold is asked in growing
blocks, and an LLM that is given up costs no more of them. Where gold proves it (`jobs/guarantee.py`), a tag has
thresholds of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_1samp

from jobs.guarantee import Promise

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MINIMUM_ANSWERED = 0.8
"""Share of calibration conversations that the LLM must answer usably before it may decide anything."""

FIRST_BLOCK, GROWTH = 16, 2
"""Conversations of the first block of a trial; each further look is at so many times as many."""
HOPELESS = 2.0
"""An LLM that surely makes more than so many times the student's errors over all tags is given up."""
SURE = 0.05


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


@dataclass(frozen=True, slots=True)
class Bands:
    """Where the student is sure, tag by tag, parallel to its tags.

    Strictly between `low` and `high` it is unsure. From `accept` on a tag is present, below it absent; where that is
    None nothing is promised, and the student decides with its own threshold.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    accept: tuple[float | None, ...]

    @classmethod
    def plain(cls, tags: int, low: float, high: float) -> Bands:
        """The same band for every tag, nothing promised."""
        return cls((low,) * tags, (high,) * tags, (None,) * tags)

    @classmethod
    def of(cls, promises: Sequence[Promise], low: float, high: float) -> Bands:
        """Promised tags keep to the thresholds that were proven, the others to `low` and `high`."""
        cuts: list[tuple[float, float, float | None]] = []
        for promise in promises:
            if promise.promised == "none" or promise.accept_at is None or promise.reject_at is None:
                cuts.append((low, high, None))
            else:
                cuts.append((promise.reject_at, promise.accept_at, promise.accept_at))
        return cls(tuple(c[0] for c in cuts), tuple(c[1] for c in cuts), tuple(c[2] for c in cuts))

    def unsure(self, probabilities: FloatArray) -> BoolArray:
        """(n, t): where the calibrated probability says neither yes nor no."""
        return (probabilities > np.array(self.low)) & (probabilities < np.array(self.high))

    def decided(self, probabilities: FloatArray, student: BoolArray) -> BoolArray:
        """(n, t): what the student decides alone; `student` by its own thresholds."""
        promised = np.array([accept is not None for accept in self.accept], dtype=np.bool_)
        cuts = np.array([2.0 if accept is None else accept for accept in self.accept])
        return np.where(promised, probabilities >= cuts, student)


def trial_blocks(conversations: int) -> list[range]:
    """Places of calibration conversations in the order they are asked: 16, then up to 32, 64, …"""
    ends = [min(FIRST_BLOCK, conversations)]
    while ends[-1] < conversations:
        ends.append(min(conversations, ends[-1] * GROWTH))
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def give_up(gold: BoolArray, student: BoolArray, llm: BoolArray, answered: BoolArray) -> str | None:
    """Why the rest of calibration gold need not be asked, or None.

    Either asking on could not change the outcome: on every tag the LLM has as many errors by now as the student on all
    conversations. Or it is hopeless: over all tags it makes more than `HOPELESS` times the student's errors on the
    same conversations (one-sided t test on the differences, p < `SURE` at each look).

    Args:
        gold, student, llm: n calibration conversations x t tags.
        answered: n, which of them the LLM has answered usably so far.
    """
    count = int(answered.sum())
    if count < FIRST_BLOCK or count == len(answered):
        return None
    by_llm, by_student = (llm != gold)[answered], (student != gold)[answered]
    errors = f"{int(by_llm.sum())} errors against {int(by_student.sum())} of the student"
    given_up = f"given up after {count} of {len(answered)} calibration conversations, {errors}"
    if (by_llm.sum(axis=0) >= (student != gold).sum(axis=0)).all():
        return f"{given_up}: better on no tag, whatever the rest says"
    differences = by_llm.sum(axis=1) - HOPELESS * by_student.sum(axis=1)
    if differences.std() == 0:
        hopeless = bool(differences[0] > 0)
    else:
        hopeless = float(ttest_1samp(differences, 0.0, alternative="greater").pvalue) < SURE
    return f"{given_up}: hopeless" if hopeless else None


def _earned(student_errors: IntArray, llm_errors: IntArray) -> BoolArray:
    """(t,): which tags the LLM has earned, by both labellers' errors on each of t tags."""
    ahead = llm_errors.sum() < student_errors.sum()
    return np.asarray((llm_errors < student_errors) | ((llm_errors == student_errors) & ahead), dtype=np.bool_)


def llm_trust(
    tag_ids: Sequence[str],
    gold: BoolArray,
    student: BoolArray,
    llm: BoolArray,
    answered: BoolArray,
    *,
    given_up: str | None = None,
) -> list[TagTrust]:
    """Which tags the LLM may decide.

    Args:
        tag_ids: t tags.
        gold, student, llm: n conversations x t tags, all on the same calibration conversations.
        answered: n, whether the LLM gave a usable answer; only these are compared.
        given_up: why not all of them were asked (`give_up`): it decides nothing.
    """
    n = int(answered.sum())
    share = n / len(answered) if len(answered) else 0.0
    truth, said = gold[answered], llm[answered]
    by_student, by_llm = (student[answered] != truth).sum(axis=0), (said != truth).sum(axis=0)
    earned = _earned(by_student, by_llm)
    found = []
    for i, tag_id in enumerate(tag_ids):
        student_errors, llm_errors = int(by_student[i]), int(by_llm[i])
        precision = (int((said & truth)[:, i].sum()) + 1) / (int(said[:, i].sum()) + 2)
        decides = given_up is None and share >= MINIMUM_ANSWERED and bool(earned[i])
        if given_up is not None:
            reason = f"the LLM was {given_up}"
        elif share < MINIMUM_ANSWERED:
            reason = f"the LLM answered {n} of {len(answered)} calibration conversations usably"
        else:
            fewer = "fewer" if llm_errors < student_errors else "no fewer"
            reason = f"the LLM makes {fewer} errors than the student: {llm_errors} against {student_errors}"
            if llm_errors == student_errors:
                reason += f"; over all tags {int(by_llm.sum())} against {int(by_student.sum())}"
        support = int(truth[:, i].sum())
        found.append(TagTrust(tag_id, n, support, student_errors, llm_errors, precision, decides, reason))
    return found


def trust_of_others(gold: BoolArray, student: BoolArray, llm: BoolArray, *, folds: int) -> BoolArray:
    """(n, t): may the LLM decide the tag, as the conversations outside this one's fold would have it?

    What `llm_trust` finds on conversations is a little too good on these very ones. n must be at least `folds`; every
    `folds`-th conversation is of one fold.
    """
    wrong_student, wrong_llm = student != gold, llm != gold
    fold = np.arange(len(gold)) % folds
    trusted = np.zeros(gold.shape, np.bool_)
    for part in range(folds):
        others = fold != part
        trusted[~others] = _earned(wrong_student[others].sum(axis=0), wrong_llm[others].sum(axis=0))
    return trusted


def whole_conversations(asked: BoolArray, tags: BoolArray) -> BoolArray:
    """(n, t): `asked`, and `tags` ((t,) or (n, t)) in the conversations where anything is asked."""
    return asked | (asked.any(axis=1, keepdims=True) & tags)


def combine(student: BoolArray, llm: BoolArray, answered: BoolArray, asked: BoolArray, decides: BoolArray) -> BoolArray:
    """Final decisions, n x t: the LLM's where the student was unsure (`asked`), answered, and may decide the tag."""
    take = asked & decides[np.newaxis, :] & answered[:, np.newaxis]
    return np.where(take, llm, student)
