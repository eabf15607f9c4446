"""What the cascade would ask and win with wider and narrower bands of doubt, and which of them gold proves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs.cascade import trust_of_others
from jobs.cost_curve import GRID, LOWS, Choice, CostPoint, Tried, cheapest, choose_band, cost_curve, ratio_lower_bound
from jobs.evaluation.table import costs_table
from jobs.guarantee import Promise, Target, lower_bound

ONE = np.ones(1, np.bool_)
FIXED = (0.2, 0.8)
TARGET = Target(0.9, 0.9, 0.95)
NOTHING = Promise("a", 4, 2, "none", None, None, 0.0, 0.0, 0.05, None, "")


# (the tag is there, the student's probability, what it decides): how many of a hundred conversations.
KINDS = {
    (True, 0.99, True): 40,
    (False, 0.01, False): 40,
    (True, 0.45, False): 7,
    (False, 0.45, True): 7,
    (True, 0.07, False): 3,
    (False, 0.93, True): 3,
}


def tried(n: int = 100, *, llm_wrong: float = 0.0) -> Tried:
    """One tag; the student is wrong on a fifth of n conversations, and nearly sure of 6 of a hundred of these."""
    hundred = [kind for kind, count in KINDS.items() for _ in range(count)]
    rows = np.random.default_rng(3).permutation(np.array(hundred * (n // 100) + hundred[: n % 100]))
    gold = rows[:, :1].astype(np.bool_)
    llm = gold ^ (np.random.default_rng(1).random(gold.shape) < llm_wrong)
    return Tried(gold, rows[:, 1:2], rows[:, 2:].astype(np.bool_), llm, *(np.ones(n, np.bool_),) * 2)


def curve(seen: Tried, band: tuple[float, float] = FIXED, target: Target = TARGET) -> list[CostPoint]:
    return list(cost_curve(seen, [NOTHING], target, band, decides=ONE))


def test_a_good_llm_wins_more_the_more_it_is_asked() -> None:
    found = curve(tried())
    assert [(point.low, point.high) for point in found] == list(GRID)
    assert [point.asked for point in found] == [100, 20, 20, 14, 14, 14, 14, 0]
    assert [point.f1 for point in found] == pytest.approx([1.0] * 3 + [0.94] * 4 + [0.8])
    assert [point.conversations for point in found] == [100] * len(found)


def test_what_is_proven_and_what_is_cheapest() -> None:
    """Fifty of fifty right prove 0.90 at 1.7 %, forty-seven do not; more gold proves those, too."""
    assert [point.low for point in curve(tried()) if point.proven] == [0.0, 0.02, 0.05]
    assert (best := cheapest(curve(tried()))) is not None and best.asked == 20
    more = curve(tried(1_000))
    assert [point.low for point in more if point.proven] == [low for low in LOWS if low < 0.5]
    assert (best := cheapest(more)) is not None and (best.low, best.asked) == (0.1, 140)


def test_a_band_after_one_that_is_not_proven_is_not_tried() -> None:
    """An LLM that is bad where the student is sure: the wide sequence fails at once, the narrow one still proves."""
    seen = tried(1_000)
    sure = (seen.probabilities < 0.05) | (seen.probabilities > 0.95)
    fools = np.random.default_rng(2).random(sure.shape) < 0.11
    worse = replace(seen, llm=seen.gold ^ (sure & fools))
    found = curve(worse)
    assert [point.proven for point in found] == [False] * 4 + [True] * 3 + [False]
    assert found[2].precision_low > TARGET.precision  # would be proven, but the widest band is not


def test_an_llm_that_is_worse_decides_nothing_in_any_fold() -> None:
    found = curve(tried(llm_wrong=0.4))
    assert {point.asked for point in found} == {0} and len({point.f1 for point in found}) == 1
    assert cheapest(found) is None


def test_whom_to_trust_is_learned_from_other_conversations() -> None:
    """The only error of the student is in the first fold: there alone nobody knows of it."""
    gold = np.ones((10, 1), np.bool_)
    student = gold.copy()
    student[0] = False
    trusted = trust_of_others(gold, student, gold, folds=5)
    assert trusted[:, 0].tolist() == [False, True, True, True, True] * 2


def test_the_settings_band_is_a_point_of_its_own() -> None:
    found = curve(tried(), band=(0.4, 0.95))
    assert [(point.low, point.high) for point in found if (point.low, point.high) not in GRID] == [(0.4, 0.95)]
    choice = choose_band(found, (0.4, 0.95), "fixed")
    assert choice.band == (0.4, 0.95) == next((point.low, point.high) for point in choice.points if point.chosen)


def test_proven_takes_the_cheapest_and_falls_back_to_the_settings() -> None:
    choice = choose_band(curve(tried()), FIXED, "proven")
    assert choice.band == (0.02, 0.98) and sum(point.chosen for point in choice.points) == 1
    few = replace(tried(), answered=np.arange(100) < 20)
    choice = choose_band(curve(few), FIXED, "proven")
    assert choice.band == FIXED and not any(point.proven for point in choice.points)
    assert choose_band((), FIXED, "proven") == Choice(FIXED, False, ())


def second_tag(seen: Tried, *, student: bool, llm: bool) -> Tried:
    """The same with a tag that is nowhere, of which the student is sure; where it is unsure of the first, each of both
    labellers is wrong about it (True) or not."""
    unsure = (seen.probabilities > 0.2) & (seen.probabilities < 0.8)
    said = unsure & student
    return replace(
        seen,
        gold=np.hstack([seen.gold, np.zeros_like(seen.gold)]),
        probabilities=np.hstack([seen.probabilities, np.where(said, 0.9, 0.1)]),
        student=np.hstack([seen.student, said]),
        llm=np.hstack([seen.llm, unsure & llm]),
    )


@pytest.mark.parametrize(("student", "llm"), [(True, False), (False, False), (False, True)])
def test_an_answer_counts_for_the_whole_conversation_where_that_makes_fewer_errors(student: bool, llm: bool) -> None:
    seen, promises = second_tag(tried(), student=student, llm=llm), [NOTHING, replace(NOTHING, tag_id="b")]
    points = cost_curve(seen, promises, TARGET, FIXED, decides=np.array([True, True]))
    assert {point.whole for point in points} == {student}
    (fixed,) = (point for point in points if point.low == FIXED[0])
    assert fixed.asked == 14 and fixed.f1 == pytest.approx(0.94)  # asks no more, and 14 more errors would show
    choice = choose_band(points, FIXED, "fixed")
    assert choice.whole_tags(promises, ["a", "b"]) == (frozenset("ab") if student else frozenset())
    promised = [NOTHING, replace(promises[1], promised="student", accept_at=0.5, reject_at=0.5)]
    assert choice.whole_tags(promised, ["a", "b"]) <= {"a"} and choice.whole_tags(promises, ["b"]) <= {"b"}


def test_an_answer_that_cannot_tell_counts_for_no_whole_conversation() -> None:
    seen, promises = second_tag(tried(), student=True, llm=False), [NOTHING, replace(NOTHING, tag_id="b")]
    silent = replace(seen, told=np.zeros(100, np.bool_))
    assert not any(point.whole for point in cost_curve(silent, promises, TARGET, FIXED, decides=np.array([True] * 2)))


def test_a_promised_tag_keeps_its_thresholds() -> None:
    promise = Promise("a", 100, 50, "student", 0.5, 0.5, 0.9, 0.9, 0.05, 0, "")
    points = cost_curve(tried(), [promise], TARGET, FIXED, decides=ONE)
    assert {point.asked for point in points} == {0}


def test_unanswered_conversations_and_tags_of_the_student_are_left_out() -> None:
    seen = tried()
    some = replace(seen, answered=np.arange(100) < 30)
    assert {point.conversations for point in curve(some)} == {30}
    assert curve(replace(seen, answered=np.zeros(100, np.bool_))) == []
    assert cost_curve(seen, [NOTHING], TARGET, FIXED, decides=~ONE) == ()


def test_a_lower_bound_knows_that_tags_go_wrong_together() -> None:
    ten = np.full(40, 10)
    scattered, together = ten.copy(), ten.copy()
    scattered[:20] -= 1
    together[:2] -= 10
    assert scattered.sum() == together.sum()
    exact = lower_bound(380, 400, 0.05)
    assert ratio_lower_bound(scattered, ten, 0.05) == pytest.approx(exact)
    assert ratio_lower_bound(together, ten, 0.05) < exact - 0.02
    # Without an error the spread is 0; how little was seen still counts.
    assert ratio_lower_bound(ten[:2], ten[:2], 0.05) == pytest.approx(lower_bound(20, 20, 0.05))
    assert ratio_lower_bound(np.zeros(5, np.int64), ten[:5], 0.05) == 0.0


def test_the_table_names_the_settings() -> None:
    points = choose_band(curve(tried()), FIXED, "fixed").points
    table = costs_table({"costs": [{name: getattr(point, name) for name in point.__slots__} for point in points]})
    assert table.row_count == len(LOWS) and "label.unsure_low" in str(table.title)
