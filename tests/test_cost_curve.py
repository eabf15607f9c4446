"""What the cascade would ask and win with wider bands of doubt."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.evaluation.cost_curve import LOWS, cost_curve
from jobs.evaluation.table import costs_table

GOLD = np.array([[True], [True], [False], [False]])
STUDENT = np.array([[True], [False], [True], [False]])
"""Wrong on the second, where it is not sure, and on the third, where it nearly is."""
PROBABILITIES = np.array([[0.99], [0.45], [0.93], [0.01]])
EVERY = np.ones(4, np.bool_)
ONE = np.ones(1, np.bool_)


def curve(llm: np.ndarray, answered: np.ndarray = EVERY, decides: np.ndarray = ONE) -> list[tuple[float, int, float]]:
    points = cost_curve(GOLD, PROBABILITIES, STUDENT, llm, answered=answered, decides=decides)
    return [(point.low, point.asked, point.f1) for point in points]


def test_a_good_llm_wins_more_the_more_it_is_asked() -> None:
    found = curve(GOLD)
    assert [low for low, _, _ in found] == list(LOWS)
    assert [asked for _, asked, _ in found] == [1, 1, 1, 2, 2, 4]
    assert [f1 for _, _, f1 in found] == pytest.approx([0.8, 0.8, 0.8, 1.0, 1.0, 1.0])


def test_a_bad_llm_costs_the_more_it_is_asked() -> None:
    found = curve(~GOLD)
    assert found[-1][2] == 0.0 < found[0][2]


def test_unanswered_conversations_and_tags_of_the_student_are_left_out() -> None:
    _, asked, f1 = curve(GOLD, answered=np.array([True, False, True, True]))[0]
    assert asked == 0 and f1 == pytest.approx(2 / 3)
    assert curve(GOLD, decides=~ONE) == [] == curve(GOLD, answered=~EVERY)


def test_the_table_names_the_settings() -> None:
    points = cost_curve(GOLD, PROBABILITIES, STUDENT, GOLD, answered=EVERY, decides=ONE)
    table = costs_table({"costs": [{name: getattr(point, name) for name in point.__slots__} for point in points]})
    assert table.row_count == len(LOWS) and "label.unsure_low" in str(table.title)
