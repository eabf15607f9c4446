"""Grouping, names and assignments on a small set with four evident wishes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import yaml
from threadpoolctl import threadpool_info, threadpool_limits

from jobs.conversation import Conversation, Turn
from jobs.errors import InputError
from jobs.evaluation import induction_baseline
from jobs.evaluation.induction_baseline import consensus_induce
from jobs.evaluation.induction_metrics import score_induction
from jobs.induction import cluster
from jobs.induction import induce as induce_module
from jobs.induction import seen as seen_module
from jobs.induction.cluster import Grouping, extend, group_turns
from jobs.induction.features import FloatArray, lexical, with_neighbours
from jobs.induction.induce import Induced, induce
from jobs.induction.keywords import group_keywords
from jobs.induction.proposal import NO_INTENT
from jobs.student.embed import Embedder, Progress
from jobs.taxonomy import dump_taxonomy, parse_taxonomy

WISHES = {
    "address": (["update", "change", "correct"], ["my postal address", "the address on file", "my home address"]),
    "password": (["reset", "recover", "unlock"], ["my online password", "the password I forgot", "my login password"]),
    "claim": (["file", "open", "submit"], ["an accident claim", "a claim for my crash", "a car damage claim"]),
    "cancel": (["cancel", "terminate", "end"], ["my travel policy", "the policy I bought", "this policy early"]),
}
TAILS = [
    "",
    " today",
    " before Monday",
    " this week",
    " after my move",
    " as my brother did",
    " on the phone",
    " at last",
]


def wishes(each: int = 30) -> list[Conversation]:
    picker = random.Random(3)
    found = []
    for label, (verbs, objects) in WISHES.items():
        everything = [f"I need to {v} {o}{t}" for v in verbs for o in objects for t in TAILS]
        for text in picker.sample(everything, each):
            found.append((label, text))
    picker.shuffle(found)
    return [
        Conversation(f"c{i}", (Turn("customer", text),), turn_labels=((label,),))
        for i, (label, text) in enumerate(found)
    ]


class WordsOnly(Embedder):
    """Embeds by words: groups need no sentence model to be tested."""

    def __init__(self) -> None:
        self.asked, self.name, self.dimensions, self.counts_groups = 0, "words", 8, False

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        self.asked += len(texts)
        rows = lexical(list(texts), 0)
        return np.pad(rows, ((0, 0), (0, max(0, 8 - rows.shape[1]))))


def run(conversations: list[Conversation]) -> Induced:
    return induce(conversations, seed=17, embedder=WordsOnly(), name="small")


@pytest.fixture(scope="module")
def small() -> Induced:
    return run(wishes())


def test_evident_wishes_are_found_and_every_turn_is_assigned(small: Induced) -> None:
    talks = wishes()
    assert [(a.conversation_id, a.turn) for a in small.assignments] == [(c.conversation_id, 0) for c in talks]
    assert {a.tag for a in small.assignments} == set(small.taxonomy.tag_ids)
    scores = score_induction([a.tag for a in small.assignments], [c.turn_labels[0] for c in talks if c.turn_labels])
    assert scores is not None
    assert scores.precision > 0.9 and scores.nmi > 0.6 and 4 <= scores.tags_found <= 12


def test_gold_is_never_looked_at(small: Induced) -> None:
    bare = [Conversation(c.conversation_id, c.turns) for c in wishes()]
    assert run(bare) == small


def test_taxonomy_is_proposed_readable_and_points_to_its_turns(small: Induced) -> None:
    tree = parse_taxonomy(yaml.safe_load(dump_taxonomy(small.taxonomy)), "small.yaml")
    texts = {c.conversation_id: c.turns for c in wishes()}
    assert tree.status == "proposed" and tree.language == "en"
    assert len({tag.name for tag in tree.tags}) == len(tree.tags)
    for tag in tree.tags:
        assert tag.status == "proposed" and tag.definition and tag.examples
        for example in tag.examples:
            assert example.conversation_id and example.turn is not None
            assert texts[example.conversation_id][example.turn].text == example.text
    assert any("password" in tag.name for tag in tree.tags)


def test_turns_without_a_wish_are_answered_none() -> None:
    talks = [
        Conversation(
            c.conversation_id, (Turn("customer", "hello"), Turn("agent", "Hi"), *c.turns, Turn("customer", "ok"))
        )
        for c in wishes(20)
    ]
    found = run(talks)
    tags = {(a.conversation_id, a.turn): a.tag for a in found.assignments}
    assert len(tags) == 3 * len(talks)
    assert {tags[c.conversation_id, 0] for c in talks} == {NO_INTENT}
    assert NO_INTENT not in {tags[c.conversation_id, 2] for c in talks}
    assert NO_INTENT not in found.taxonomy.tag_ids


def test_beyond_the_vote_the_classifier_assigns_and_few_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "VOTING_TURNS", 80)
    monkeypatch.setattr(seen_module, "EMBEDDED_TURNS", 100)
    embedder = WordsOnly()
    talks = wishes(40)
    found = induce(talks, seed=17, embedder=embedder)
    scores = score_induction([a.tag for a in found.assignments], [c.turn_labels[0] for c in talks if c.turn_labels])
    assert scores is not None and scores.turns == 160 and scores.precision > 0.85
    assert embedder.asked == 2 * 80


def test_the_consensus_lets_no_more_vote_than_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of a vote grows with n squared: 20,000 turns would take 1.6 GB for each copy of it."""
    voted: list[int] = []

    def spy(views: Sequence[FloatArray], *rest: Any, **more: Any) -> Grouping:
        voted.append(len(views[0]))
        return group_turns(views, *rest, **more)

    monkeypatch.setattr(induction_baseline, "group_turns", spy)
    talks = wishes(40)
    gold = [c.turn_labels[0] for c in talks if c.turn_labels]
    whole = consensus_induce(talks, seed=17, embedder=WordsOnly())
    monkeypatch.setattr(seen_module, "VOTING_TURNS", 80)
    found = consensus_induce(talks, seed=17, embedder=WordsOnly())
    assert voted == [160, 80] and len(found.assignments) == len(whole.assignments) == 160
    for one in (whole, found):
        scores = score_induction([a.tag for a in one.assignments], gold)
        assert scores is not None and scores.turns == 160 and scores.precision > 0.85


def test_groups_do_not_depend_on_how_many_threads_sum_up(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def spy(*arguments: Any, **rest: Any) -> Grouping:
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return group_turns(*arguments, **rest)

    monkeypatch.setattr(induce_module, "group_turns", spy)
    with threadpool_limits(limits=2):
        run(wishes(5))
    assert threads and set(threads) == {1}


def test_vectors_that_tell_groups_apart_say_how_many_there_are() -> None:
    picker = np.random.default_rng(3)
    centres = np.eye(12, dtype=np.float32)[:9]
    space = (np.repeat(centres, 30, axis=0) + picker.normal(0, 0.08, (270, 12))).astype(np.float32)
    found = group_turns([space], 17, count_groups=True)
    assert found.groups == 9 and (found.labels.reshape(9, 30) == found.labels.reshape(9, 30)[:, :1]).all()


def test_a_judge_never_starts_from_fewer_groups_than_were_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    picker = np.random.default_rng(3)
    space = (np.repeat(np.eye(12, dtype=np.float32)[:9], 30, axis=0) + picker.normal(0, 0.08, (270, 12))).astype(
        np.float32
    )
    # UMAP would draw other groups on other machines: what is tested is which of two cuts is taken.
    monkeypatch.setattr(cluster, "_reduce", lambda view, seed: view)
    monkeypatch.setattr(cluster, "_FINE_CUT", 0.99)
    found = group_turns([space], 17, count_groups=True)
    assert found.groups == 9 and found.fine is not None and found.fine.groups == 9
    monkeypatch.setattr(cluster, "_FINE_CUT", 0.3)
    found = group_turns([space], 17, count_groups=True)
    assert found.fine is not None and found.fine.groups > 9


def test_extend_follows_the_confident_cores() -> None:
    known = np.array([[0.0, 1.0]] * 6 + [[1.0, 0.0]] * 6, dtype=np.float32)
    grouping = Grouping(np.array([0] * 6 + [1] * 6), np.ones(12))
    labels, sure = extend(grouping, known, np.array([[0.1, 0.9], [0.8, 0.1]], dtype=np.float32), 1)
    assert labels.tolist() == [0, 1] and bool((sure > 0.5).all())


@pytest.mark.parametrize("texts", [["pay my bill"], ["pay my bill"] * 40, ["1", "2", "3"], ["查余额"] * 12 + ["转账"]])
def test_tiny_and_uniform_inputs_still_give_a_tag_to_every_turn(texts: list[str]) -> None:
    found = run([Conversation(str(i), (Turn("customer", text),)) for i, text in enumerate(texts)])
    assert len(found.assignments) == len(texts)
    assert {a.tag for a in found.assignments} <= set(found.taxonomy.tag_ids)


def test_no_customer_turn_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="customer"):
        run([Conversation("a", (Turn("agent", "Hello"),))])


def test_keywords_tell_groups_apart_in_both_languages() -> None:
    texts = ["我要提前赎回基金", "赎回基金要几天", "信用卡账单多少", "信用卡账单日能改吗"]
    first, second = group_keywords(texts, [0, 0, 1, 1])
    assert any("赎回" in word for word in first) and not any("赎回" in word for word in second)
    assert any("信用卡" in word for word in second)
    english = group_keywords(["I want to reset my password", "reset password please", "pay the bill"], [0, 0, 1])
    assert english[0][0] == "reset password" or {"reset", "password"} <= set(english[0])


def test_a_turn_leans_towards_its_neighbours_in_the_same_chat_only() -> None:
    rows = np.eye(5, dtype=np.float32)
    assert with_neighbours(rows, list("abcde")) is rows
    found = with_neighbours(rows, ["a", "a", "a", "b", "b"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    close = found @ found.T
    assert close[0, 1] > close[0, 2] > close[0, 3] and close[3, 4] > close[2, 3]
    assert (found.argmax(axis=1) == np.arange(5)).all(), "what it says itself weighs most"
