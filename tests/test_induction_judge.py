"""What a judge may change in groups, how it is tried first, and what the data forbid it."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.induction.asking import Asker
from jobs.induction.cluster import Grouping
from jobs.induction.proposal import Naming
from jobs.induction.refine import joined, near_pairs
from jobs.induction.revise import Draft, Material, name_and_revise
from jobs.induction.turns import CustomerTurn
from jobs.settings import InduceSettings, LlmSettings
from tests.fake_llm import FakeLlm, Reply, reply_json
from tests.test_induction_naming import profile

LLM = LlmSettings(retries=0, backoff_seconds=0.01, timeout_seconds=10)
SAID = [
    ("password", "reset my password please"),
    ("password", "unlock my password today"),
    ("address", "change my address again"),
    ("claim", "file my claim quickly"),
]
"""Four groups; the first two are one wish in other words."""


def material(each: int = 10) -> tuple[Material, Grouping]:
    labels = np.repeat(np.arange(4), each)
    turns = [CustomerTurn(f"c{i}", 0, f"{SAID[g][1]} {i}", SAID[g][1], True) for i, g in enumerate(labels.tolist())]
    places = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    rows = places[labels] + np.random.default_rng(1).normal(0, 0.01, (len(labels), 3)).astype(np.float32)
    affinity = np.full((4, 4), 0.0)
    affinity[0, 1] = affinity[1, 0] = 0.2
    np.fill_diagonal(affinity, 0.9)
    return Material(turns, rows, rows, "en"), Grouping(labels, np.ones(len(labels)), affinity)


def name_of(prompt: str) -> dict[str, Any]:
    verb, _, noun, *_ = prompt.split("# The group to name:")[1].split("1. ")[1].split()
    name = f"{verb} {noun}".capitalize()
    definition = f"The customer asks to {verb} the {noun} of an account."
    return {"name": name, "definition": definition, "include": [], "exclude": [], "examples": [1], "id": noun}


def answering(verdict: Any) -> Any:
    """Names from the group's own words; `verdict` of (first name, second name) is the judge."""

    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "# Group A:" not in prompt:
            return reply_json(name_of(prompt))
        first, second = (prompt.split(f"# Group {letter}: ")[1].split("\n")[0] for letter in "AB")
        return reply_json({"a_wants": "", "b_wants": "", "verdict": verdict(first, second)})

    return script


def same_noun(a: str, b: str) -> str:
    """A judge who knows that all passwords are one wish and who takes halves of a group for what they are."""
    return "one" if a.split()[-1] == b.split()[-1] else "two"


def revise(script: Any, bounds: InduceSettings | None = None) -> tuple[Draft, list[dict[str, Any]]]:
    given, grouping = material()
    with FakeLlm(script) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        draft = name_and_revise(given, grouping, asker, bounds or InduceSettings(), whole_chats=False)
    return draft, asker.steps


def test_two_groups_that_the_judge_calls_one_wish_become_one_and_no_turn_is_lost() -> None:
    draft, steps = revise(answering(same_noun))
    assert [group.size for group in draft.groups] == [20, 10, 10] and draft.trusted
    assert draft.grouping.labels.tolist() == [0] * 20 + [1] * 10 + [2] * 10
    assert len(draft.namings) == 3
    judged = [step for step in steps if step["step"] == "pair"]
    assert [step["about"]["why"] for step in judged] == ["control"] * 5 + ["twin"] * 4 + ["near"]
    assert all(step["accepted"] for step in judged)


def test_a_judge_who_calls_strangers_one_wish_changes_nothing_and_the_record_says_why() -> None:
    draft, steps = revise(answering(lambda a, b: "one"), InduceSettings())
    assert draft.groups[-1].number == 3 and len(draft.namings) == 4 and not draft.trusted
    assert {step["about"].get("why") for step in steps} == {
        None,
        "control",
        "twin",
    }  # and it is not asked about near groups
    assert all("do not count" in step["reason"] for step in steps if step["step"] == "pair")


def test_the_data_can_forbid_a_merge() -> None:
    given, grouping = material()
    apart = Grouping(grouping.labels, grouping.confidence, np.eye(4))

    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "# Group A:" in prompt:
            first, second = (prompt.split(f"# Group {letter}: ")[1].split("\n")[0] for letter in "AB")
            return reply_json({"a_wants": "", "b_wants": "", "verdict": "one" if first == second else "two"})
        answer = name_of(prompt)
        return reply_json(answer | {"name": "Restore the password"} if "password" in answer["name"] else answer)

    with FakeLlm(script) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        draft = name_and_revise(given, apart, asker, InduceSettings(), whole_chats=False)
    assert len(draft.groups) == 4 and len(draft.namings) == 3  # one of the two keeps the name
    same = [step for step in asker.steps if step["about"].get("why") == "same name"]
    assert same and "the data contradict" in same[0]["reason"]


def test_bounds_keep_the_llm_from_being_asked() -> None:
    draft, steps = revise(answering(lambda a, b: "one"), InduceSettings(pairs=0))
    assert {step["step"] for step in steps} == {"name"}
    assert draft.trusted, "who is not to judge may still give headings and read definitions"


def test_a_judge_who_does_not_answer_about_strangers_is_not_sound() -> None:
    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        names = [line.split()[-1] for line in prompt.splitlines() if line.startswith(("# Group A:", "# Group B:"))]
        reply: Reply = Reply("hm") if len(set(names)) == 2 else answering(same_noun)(body)
        return reply

    draft, steps = revise(script)
    assert not draft.trusted and len(draft.groups) == 4
    assert any("nobody confuses" in step["reason"] for step in steps if step["step"] == "pair")


def test_a_model_that_cannot_name_is_not_asked_to_judge() -> None:
    draft, steps = revise(Reply("no idea"))
    assert not draft.trusted and not draft.namings and len(draft.groups) == 4
    assert {step["step"] for step in steps} == {"name"}


def cut_fine(each: int = 12) -> tuple[Material, Grouping]:
    """Fine groups 0 and 1 are one wish (password), 2 and 3 two (address, claim); the coarser cut has 0, 1 and 2+3."""
    given, four = material(each)
    affinity = np.array([[0.9, 0.2, 0, 0], [0.2, 0.9, 0, 0], [0, 0, 0.9, 0.4], [0, 0, 0.4, 0.9]])
    coarse = np.array([[0.9, 0.2, 0.0], [0.2, 0.9, 0.0], [0.0, 0.0, 0.6]])
    fine = Grouping(four.labels, four.confidence, affinity)
    labels = np.minimum(four.labels, 2)
    order = {2: 0, 0: 1, 1: 2}  # numbers go by falling size
    return given, Grouping(
        np.array([order[g] for g in labels.tolist()]), four.confidence, coarse[np.ix_([2, 0, 1], [2, 0, 1])], fine
    )


def test_a_sound_judge_starts_from_fine_groups_and_undoes_what_the_cut_did() -> None:
    given, grouping = cut_fine()
    with FakeLlm(answering(same_noun)) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        draft = name_and_revise(given, grouping, asker, InduceSettings(), whole_chats=False)
    assert draft.trusted and sorted(np.bincount(draft.grouping.labels).tolist()) == [12, 12, 24]
    assert len(set(draft.grouping.labels[:24].tolist())) == 1, "the two halves of the password wish are one tag"
    assert draft.grouping.labels[24] != draft.grouping.labels[36], "address and claim, one group of the cut, are two"
    whys = [step["about"]["why"] for step in asker.steps if step["step"] == "pair"]
    assert {"control", "twin", "near"} == set(whys)
    assert sum(step["step"] == "twin" for step in asker.steps) == 8, "halves of four groups got names of their own"


def test_a_judge_who_calls_everything_two_wishes_changes_nothing() -> None:
    given, grouping = cut_fine()
    with FakeLlm(answering(lambda a, b: "two")) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        draft = name_and_revise(given, grouping, asker, InduceSettings(), whole_chats=False)
    assert not draft.trusted and draft.grouping.labels.tolist() == grouping.labels.tolist()
    pairs = [step for step in asker.steps if step["step"] == "pair"]
    assert pairs and all("halves of one group one wish" in step["reason"] for step in pairs)


def test_what_the_judge_does_not_answer_the_cut_decides() -> None:
    given, grouping = cut_fine()

    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        names = {line.split()[-1] for line in prompt.splitlines() if line.startswith(("# Group A:", "# Group B:"))}
        if names == {"address", "claim"}:
            return Reply("no idea")
        reply: Reply = answering(same_noun)(body)
        return reply

    with FakeLlm(script) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        draft = name_and_revise(given, grouping, asker, InduceSettings(), whole_chats=False)
    assert draft.trusted and sorted(np.bincount(draft.grouping.labels).tolist()) == [24, 24]


def test_groups_are_judged_beside_their_three_nearest_and_namesakes_only() -> None:
    affinity = np.full((6, 6), 0.1)
    affinity[0, 5] = affinity[5, 0] = 0.05
    affinity += np.eye(6)
    namings = {n: Naming(f"Name {n % 5}", f"The customer asks about {n}.") for n in range(6)}
    found = near_pairs(affinity, range(6), namings, most=99)
    assert (found[0].first, found[0].second, found[0].why) == (0, 5, "same name")
    assert all(pair.why == "near" for pair in found[1:]) and len(found) < 15
    assert near_pairs(affinity, range(6), namings, most=2) == found[:2]


def test_one_wrong_verdict_does_not_join_chains_of_neighbours() -> None:
    right = {(0, 1): True, (2, 3): True}
    apart = {(0, 2): False, (0, 3): False, (1, 3): False}
    assert joined(5, right | {(1, 2): True} | apart) == {1: 0, 3: 2}
    assert joined(5, right | {(1, 2): True}) == {1: 0, 2: 0, 3: 0}, "unless nothing speaks against it"
    assert joined(3, {}) == {}
