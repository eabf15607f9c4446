"""The stability index: known values, intervals that cover, chance told from drift."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from jobs.drift import TagSet, psi, tag_drift

TAGS = tuple("abcdefghij")


def night(generator: np.random.Generator, n: int, rates: tuple[float, ...]) -> Counter[TagSet]:
    said = generator.random((n, len(rates))) < np.array(rates)
    return Counter(tuple(tag for tag, yes in zip(TAGS, row, strict=False) if yes) for row in said)


def test_the_index_by_hand() -> None:
    before, now = np.array([59.5, 39.5]), np.array([29.5, 69.5])
    assert psi(before, now) == pytest.approx(-0.3 * np.log(0.5) + 0.3 * np.log(70 / 40))
    assert psi(before, before) == 0.0


def test_a_drifting_tag_is_named_and_the_others_are_not() -> None:
    generator = np.random.default_rng(5)
    before, now = night(generator, 3_000, (0.3, 0.3, 0.1)), night(generator, 1_000, (0.6, 0.3, 0.1))
    whole, *single = tag_drift(before, now)
    assert whole.tag_id is None and whole.psi > whole.chance
    found = {d.tag_id: d for d in single}
    assert single[0].tag_id == "a"
    assert (found["a"].state, found["b"].state, found["c"].state) == ("shifted", "stable", "stable")
    assert found["a"].low < found["a"].psi < found["a"].high
    assert found["a"].now == sum(n for tags, n in now.items() if "a" in tags)
    assert (found["a"].n_before, found["a"].n_now) == (3_000, 1_000)


def test_small_nights_that_do_not_drift_are_beyond_chance_in_one_of_twenty() -> None:
    generator = np.random.default_rng(6)
    beyond = 0
    for _ in range(100):
        whole = tag_drift(night(generator, 80, (0.4, 0.3, 0.3)), night(generator, 40, (0.4, 0.3, 0.3)))[0]
        beyond += whole.psi > whole.chance
    assert beyond <= 12


@pytest.mark.parametrize(("now", "true"), [((0.08,) * 10, 0.0), ((0.16,) * 5 + (0.08,) * 5, 0.226)])
def test_intervals_of_small_nights_hold_the_index_of_endless_ones(now: tuple[float, ...], true: float) -> None:
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(60):
        found = tag_drift(night(generator, 150, (0.08,) * 10), night(generator, 70, now))[0]
        assert found.low <= found.psi <= found.high
        held += found.low <= true <= found.high
    assert held >= 54, "of 60 nights 57 are wanted"


def test_a_side_without_conversations_compares_nothing_and_a_new_tag_is_finite() -> None:
    assert tag_drift({}, {("a",): 3}) == []
    found = tag_drift({(): 50}, {("a",): 50})
    assert found[0].psi > 1 and np.isfinite(found[0].psi)
    assert found[1].state == "shifted"


def test_the_same_nights_give_the_same_figures() -> None:
    generator = np.random.default_rng(8)
    before, now = night(generator, 90, (0.3, 0.3, 0.1)), night(generator, 90, (0.6, 0.3, 0.1))
    assert tag_drift(before, now) == tag_drift(dict(reversed(before.items())), now)
