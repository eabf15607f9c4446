"""Promises hold as often as they say, are made where gold suffices, and say what is missing where it does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from jobs.cascade import Bands
from jobs.guarantee import Evidence, Promise, Promised, Target, decide_band, lower_bound, p_value, promises
from jobs.power import conversations_needed, power, trials_needed

TARGET = Target(0.9, 0.9, 0.9)
Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# Share of conversations at each score, and how many of them have the tag.
SCORES = np.array([0.02, 0.15, 0.35, 0.55, 0.75, 0.95])
SHARES = np.array([0.40, 0.08, 0.05, 0.07, 0.10, 0.30])
TRUTH = {
    "good": np.array([0.001, 0.02, 0.10, 0.85, 0.97, 0.995]),
    "edge": np.array([0.02, 0.10, 0.30, 0.60, 0.85, 0.935]),
    "poor": np.array([0.08, 0.15, 0.40, 0.55, 0.70, 0.88]),
}
LLM_RIGHT = {"good": 0.98, "edge": 0.88, "poor": 0.80}


def draw(generator: np.random.Generator, n: int, kinds: list[str]) -> tuple[Array, Bools, Bools]:
    place = generator.choice(len(SCORES), size=(n, len(kinds)), p=SHARES)
    gold = np.stack([generator.random(n) < TRUTH[kind][place[:, i]] for i, kind in enumerate(kinds)], axis=1)
    right = np.stack([generator.random(n) < LLM_RIGHT[kind] for kind in kinds], axis=1)
    return SCORES[place], gold, np.where(right, gold, ~gold)


def true_rates(kind: str, promise: Promise) -> tuple[float, float]:
    """Precision and recall of what is promised, over the whole population."""
    assert promise.accept_at is not None and promise.reject_at is not None
    says_yes = np.stack([decide_band(SCORES, np.full(len(SCORES), llm), promise.reject_at, promise.accept_at)
                         for llm in (False, True)])  # fmt: skip
    if promise.promised == "student":
        says_yes[:] = promise.accept_at <= SCORES
    right, truth = LLM_RIGHT[kind], TRUTH[kind]
    given_present = np.where(says_yes[1], np.where(says_yes[0], 1.0, right), 0.0)
    given_absent = np.where(says_yes[1], np.where(says_yes[0], 1.0, 1 - right), 0.0)
    hits = float((SHARES * truth * given_present).sum())
    false = float((SHARES * (1 - truth) * given_absent).sum())
    return hits / (hits + false), hits / float((SHARES * truth).sum())


@pytest.mark.parametrize("n", [150, 600])
def test_promises_are_broken_in_no_more_draws_than_stated(n: int) -> None:
    generator = np.random.default_rng(n)
    kinds = ["edge", "poor", "edge"]
    rounds, broken = 500, 0
    for _ in range(rounds):
        p, gold, llm = draw(generator, n, kinds)
        found = promises(kinds, Evidence(p, gold, llm, generator.random(n) < 0.7), TARGET)
        kept = [min(true_rates(k, f)) >= 0.9 for k, f in zip(kinds, found, strict=True) if f.promised != "none"]
        broken += not all(kept)
    assert binomtest(broken, rounds, 1 - TARGET.confidence, alternative="greater").pvalue > 0.01


def test_without_the_correction_the_promise_would_break() -> None:
    """The simulation can tell: a band taken for its point estimate breaks far more often than one draw in ten."""
    generator = np.random.default_rng(7)
    broken = 0
    for _ in range(200):
        p, gold, _ = draw(generator, 150, ["edge"])
        given = p[:, 0] >= 0.5
        broken += bool(gold[given, 0].mean() >= 0.9) and bool(given[gold[:, 0]].mean() >= 0.9)
    edge = Promise("edge", 1, 1, "student", 0.5, 0.5, 0, 0, 0.1, 0, "")
    assert min(true_rates("edge", edge)) < 0.9
    assert broken > 20


def test_good_tags_are_promised_and_the_student_comes_before_the_llm() -> None:
    p, gold, llm = draw(np.random.default_rng(1), 2_000, ["good"])
    (found,) = promises(["good"], Evidence(p, gold, llm, np.ones(2_000, bool)), TARGET)
    assert (found.promised, found.more_gold) == ("student", 0)
    assert found.accept_at == found.reject_at
    assert min(found.precision_low, found.recall_low) >= 0.9


def test_an_llm_that_is_right_wins_the_promise_that_the_student_cannot_give() -> None:
    generator = np.random.default_rng(2)
    p, gold, _ = draw(generator, 2_000, ["poor"])
    nothing = np.zeros(2_000, bool)
    (alone,) = promises(["poor"], Evidence(p, gold, gold, nothing), TARGET)
    sure_cases = (p[:, :1] > 0.9) | (p[:, :1] < 0.1)
    gold = np.where(sure_cases, p[:, :1] > 0.5, gold)
    (both,) = promises(["poor"], Evidence(p, gold, gold, ~nothing), TARGET)
    assert (alone.promised, alone.more_gold) == ("none", None)
    assert both.promised == "cascade"
    assert both.reject_at is not None and both.accept_at is not None and both.reject_at < both.accept_at


def test_too_little_gold_says_how_much_is_missing_and_that_much_suffices() -> None:
    generator = np.random.default_rng(3)
    p, gold, llm = draw(generator, 60, ["good"])
    nothing = np.zeros(60, bool)
    (small,) = promises(["good"], Evidence(p, gold, llm, nothing), TARGET)
    assert small.promised == "none"
    assert small.more_gold is not None and small.more_gold > 0
    proven = 0
    for _ in range(50):
        p, gold, llm = draw(generator, 60 + 3 * small.more_gold, ["good"])
        (found,) = promises(["good"], Evidence(p, gold, llm, np.zeros(len(p), bool)), TARGET)
        proven += found.promised == "student"
    assert proven > 25


def test_more_tags_need_more_proof() -> None:
    p, gold, llm = draw(np.random.default_rng(4), 400, ["good"])
    nothing = np.zeros(400, bool)
    p200, gold200, llm200 = np.repeat(p, 200, axis=1), np.repeat(gold, 200, axis=1), np.repeat(llm, 200, axis=1)
    many = promises([f"t{i}" for i in range(200)], Evidence(p200, gold200, llm200, nothing), TARGET)
    (one,) = promises(["good"], Evidence(p, gold, llm, nothing), TARGET)
    assert many[0].level == pytest.approx(one.level / 200)
    assert many[0].precision_low < one.precision_low


def test_a_tag_without_gold_and_shapes_that_do_not_fit() -> None:
    none = np.zeros((5, 1), bool)
    (found,) = promises(["t"], Evidence(np.full((5, 1), 0.1), none, none, none[:, 0]), TARGET)
    assert (found.promised, found.more_gold, found.reason) == ("none", None, "no gold conversation has the tag")
    with pytest.raises(ValueError, match="must be"):
        promises(["t"], Evidence(np.zeros((4, 1)), none, none, none[:, 0]), TARGET)


def test_exact_bounds_and_power() -> None:
    assert p_value(29, 29, 0.9) == pytest.approx(0.9**29)
    assert p_value(0, 10, 0.9) == 1.0
    expected = binomtest(45, 50).proportion_ci(0.9, "exact").low
    assert lower_bound(45, 50, 0.05) == pytest.approx(expected)
    assert trials_needed(1.0, 0.9, 0.05) == 29
    needed = trials_needed(0.97, 0.9, 0.01)
    assert needed is not None and power(needed, 0.97, 0.9, 0.01) >= 0.8
    assert trials_needed(0.9, 0.9, 0.05) is None
    assert conversations_needed(10, 10, 0.9, 0.05, 100) == 290
    assert conversations_needed(0, 0, 0.9, 0.05, 100) is None


def test_bands_cut_promised_tags_and_leave_the_rest_as_they_are() -> None:
    def promise(tag: str, promised: Promised, accept: float | None, reject: float | None) -> Promise:
        return Promise(tag, 9, 9, promised, accept, reject, 0.9, 0.9, 0.1, 0, "")

    made = [promise("a", "student", 0.4, 0.4), promise("b", "cascade", 0.9, 0.1), promise("c", "none", 0.8, None)]
    bands = Bands.of(made, 0.2, 0.8)
    probabilities = np.array([[0.4, 0.5, 0.5], [0.39, 0.95, 0.9], [0.45, 0.1, 0.1]])
    student = np.array([[False, True, False], [True, True, True], [False, True, False]])
    assert bands.unsure(probabilities).tolist() == [[False, True, True], [False, False, False], [False, False, False]]
    decided = bands.decided(probabilities, student)
    assert decided[:, 0].tolist() == [True, False, True]
    assert decided[:, 1].tolist() == [False, True, False]
    assert decided[:, 2].tolist() == student[:, 2].tolist()
