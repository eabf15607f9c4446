from __future__ import annotations

import numpy as np
import pytest

from jobs.metrics import Interval, exact, micro_intervals, resampled, score_matrix, wilson

GOLD = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
SAID = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)


def test_figures_by_hand() -> None:
    scores = score_matrix(GOLD, SAID, ["a", "b", "c"])
    assert scores.micro.precision == pytest.approx(3 / 4)
    assert scores.micro.recall == pytest.approx(3 / 4)
    a = scores.tags["a"]
    assert (a.precision, a.recall, a.f1, a.support, a.predicted) == (0.5, 0.5, 0.5, 2, 2)
    assert scores.tags["b"].f1 == 1.0
    # c occurs nowhere: 0 by convention, and outside the macro mean
    assert (scores.tags["c"].f1, scores.tags["c"].support) == (0.0, 0)
    assert scores.macro.f1 == pytest.approx(0.75)
    assert scores.conversations == 4


def test_predicted_but_never_gold_counts_against_macro() -> None:
    gold = np.array([[1, 0], [1, 0]], dtype=bool)
    said = np.array([[1, 1], [1, 0]], dtype=bool)
    scores = score_matrix(gold, said, ["a", "b"])
    assert scores.macro.f1 == pytest.approx(0.5)
    assert scores.tags["b"].recall == 0.0


def test_wilson_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263 → 0.2553 to 0.3662; 15 of 148 → 0.0624 to 0.1605; 0 of 20 → 0 to 0.1611
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=1e-4)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(15, 148).low == pytest.approx(0.0624, abs=1e-4)
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_bootstrap_is_seeded_and_contains_the_point() -> None:
    rng = np.random.default_rng(3)
    gold = rng.random((200, 4)) < 0.3
    said = gold ^ (rng.random((200, 4)) < 0.1)
    one, two = micro_intervals(gold, said), micro_intervals(gold, said)
    assert one == two
    micro = score_matrix(gold, said, list("abcd")).micro
    assert one.f1.low < micro.f1 < one.f1.high
    assert one.precision.low < micro.precision < one.precision.high


def test_grouped_bootstrap_is_wider_where_customers_repeat() -> None:
    rng = np.random.default_rng(4)
    gold = np.repeat(rng.random((30, 1)) < 0.5, 10, axis=0)
    said = np.repeat(rng.random((30, 1)) < 0.5, 10, axis=0)
    alone = micro_intervals(gold, said)
    grouped = micro_intervals(gold, said, groups=[str(i // 10) for i in range(300)])
    assert grouped.f1.high - grouped.f1.low > 2 * (alone.f1.high - alone.f1.low)


def test_exact_interval_textbook() -> None:
    # Newcombe 1998, table I, method 5: 81 of 263, 15 of 148, 0 of 20
    for successes, trials, low, high in ((81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684)):
        found = exact(successes, trials)
        assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)
    assert exact(0, 0) == Interval(0.0, 1.0)


def test_a_few_right_tags_are_no_proof_and_a_few_wrong_ones_neither() -> None:
    one = np.ones((1, 1), dtype=bool)
    found = micro_intervals(one, one)
    assert found.precision == found.recall == exact(1, 1)
    assert found.precision.low == pytest.approx(0.025)
    assert [found.f1.low, found.f1.high] == pytest.approx([2 * 0.025 / 1.025, 1.0])
    wrong = micro_intervals(one, ~one)
    assert (wrong.precision, wrong.recall) == (Interval(0.0, 1.0), exact(0, 1))
    assert [wrong.f1.low, wrong.f1.high] == pytest.approx([0.0, 2 * 0.975 / 1.975])


def test_lower_bounds_of_little_gold_fail_no_oftener_than_they_say() -> None:
    rng = np.random.default_rng(6)
    gold = np.ones((20, 1), dtype=bool)
    draws = [micro_intervals(gold, rng.random((20, 1)) < 0.9, rounds=500).recall.low for _ in range(300)]
    # The bootstrap alone: one in eight.
    assert sum(low > 0.9 for low in draws) <= 0.025 * 300


def test_many_conversations_are_drawn_a_part_at_a_time_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(2).integers(0, 3, size=(50, 3))
    whole = resampled(counts, rounds=33, seed=5)
    monkeypatch.setattr("jobs.metrics.DRAWN_AT_ONCE", 400)
    assert (resampled(counts, rounds=33, seed=5) == whole).all() and whole.shape == (33, 3)
    monkeypatch.setattr("jobs.metrics.DRAWN_AT_ONCE", 1)
    assert (resampled(counts, rounds=33, seed=5) == whole).all()


def test_empty_and_misfits() -> None:
    empty = np.zeros((0, 2), dtype=bool)
    assert score_matrix(empty, empty, ["a", "b"]).micro.f1 == 0.0
    assert micro_intervals(empty, empty).f1.high == 1.0
    with pytest.raises(ValueError, match="must both be"):
        score_matrix(GOLD, SAID, ["a"])
    with pytest.raises(ValueError, match="groups"):
        micro_intervals(GOLD, SAID, groups=["x"])
