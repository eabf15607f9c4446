"""The figures of DSTC11 track 2, on cases worked out by hand."""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import pytest

from jobs.errors import InputError
from jobs.evaluation.induction_metrics import score_induction
from jobs.evaluation.recovery import recover


def test_figures_worked_out_by_hand() -> None:
    # tag a: 3 X, 1 Y; tag b: 2 X; tag c: 2 Y.  One-to-one: a=X (3), c=Y (2), b surplus -> 5 of 8.
    found = ["a"] * 4 + ["b"] * 2 + ["c"] * 2
    gold = [["X"]] * 3 + [["Y"]] + [["X"]] * 2 + [["Y"]] * 2
    scores = score_induction(found, gold)
    assert scores is not None
    assert scores.accuracy == pytest.approx(5 / 8)
    assert scores.precision == pytest.approx(7 / 8)  # a->X 3, b->X 2, c->Y 2
    assert scores.recall == pytest.approx(5 / 8)  # X->a 3, Y->c 2
    assert scores.f1 == pytest.approx(2 * (7 / 8) * (5 / 8) / (12 / 8))
    assert (scores.tags_found, scores.tags_gold, scores.turns) == (3, 2, 8)


def test_one_to_one_takes_the_best_mapping_not_the_greedy_one() -> None:
    # greedy would take a=X (3) and leave b=Y (0); best is a=Y (2) and b=X (2)
    found = ["a"] * 5 + ["b"] * 2
    gold = [["X"]] * 3 + [["Y"]] * 2 + [["X"]] * 2
    scores = score_induction(found, gold)
    assert scores is not None and scores.accuracy == pytest.approx(4 / 7)


def test_first_of_several_gold_tags_counts_and_turns_without_gold_take_no_part() -> None:
    scores = score_induction(["a", "b", "z", "z"], [["X", "Y"], ["Y", "X"], [], []])
    assert scores is not None
    assert (scores.accuracy, scores.turns, scores.tags_found, scores.tags_gold) == (1.0, 2, 2, 2)
    assert score_induction(["a"], [[]]) is None


def test_names_of_tags_do_not_matter() -> None:
    gold = [["X"], ["X"], ["Y"], ["Z"]]
    scores = score_induction(["Z", "Z", "X", "Y"], gold)
    assert scores is not None
    assert scores.accuracy == scores.precision == scores.recall == scores.ari == 1.0
    assert scores.nmi == pytest.approx(1.0)


def test_lists_that_do_not_run_in_parallel_are_refused() -> None:
    with pytest.raises(InputError, match="parallel"):
        score_induction(["a"], [])


def test_a_turn_put_aside_as_small_talk_is_wrong_where_gold_has_a_tag() -> None:
    scores = score_induction(["none"] * 8 + ["a"] * 2, [["X"]] * 8 + [["Y"]] * 2)
    assert scores is not None
    assert scores.accuracy == scores.precision == scores.recall == pytest.approx(2 / 10) == scores.f1
    assert (scores.tags_found, scores.tags_gold, scores.turns) == (1, 2, 10)
    nothing = score_induction(["none"] * 3, [["X"], ["X"], ["Y"]])
    assert nothing is not None
    assert (nothing.accuracy, nothing.precision, nothing.recall, nothing.f1, nothing.tags_found) == (0, 0, 0, 0, 0)


def test_figures_are_those_of_trying_every_mapping_and_counting() -> None:
    rng = random.Random(1)
    for _ in range(60):
        turns = rng.randint(1, 40)
        found = rng.choices(["none", "a", "b", "c", "d"][: rng.randint(2, 5)], k=turns)
        gold = rng.choices(["X", "Y", "Z", "W"][: rng.randint(1, 4)], k=turns)
        both = Counter(zip(found, gold, strict=True))
        tags, references = sorted(set(found) - {"none"}), sorted(set(gold))
        spare = [*tags, *["nobody"] * len(references)]  # a reference may be without a partner
        best = max(
            sum(both[tag, reference] for tag, reference in zip(chosen, references, strict=True))
            for chosen in permutations(spare, len(references))
        )
        precision = sum(max(both[tag, reference] for reference in references) for tag in tags) / turns
        recall = sum(max((both[tag, reference] for tag in tags), default=0) for reference in references) / turns
        scores = score_induction(found, [[reference] for reference in gold])
        assert scores is not None and scores.accuracy == pytest.approx(best / turns)
        assert [scores.precision, scores.recall] == pytest.approx([precision, recall])
        assert scores.f1 * (precision + recall) == pytest.approx(2 * precision * recall)
        one, _ = recover(found, gold)
        assert sum(round(entry.recall * entry.turns) for entry in one) == best
        partners = [entry.induced for entry in one if entry.induced]
        assert len(partners) == len(set(partners))
