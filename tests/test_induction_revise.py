"""What a judge may change in groups, what the data forbid it, headings, the critic, and small talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.errors import InputError
from jobs.induction.asking import Asker
from jobs.induction.cluster import Grouping
from jobs.induction.critic import compare, critic_yaml, criticise
from jobs.induction.features import FloatArray
from jobs.induction.groups import Topic
from jobs.induction.hierarchy import ask_topics, keyword_topic, topic_tree
from jobs.induction.proposal import Naming, build_taxonomy, keyword_naming
from jobs.induction.refine import joined, near_pairs
from jobs.induction.revise import Draft, Material, name_and_revise
from jobs.induction.smalltalk import is_small_talk
from jobs.induction.turns import CustomerTurn
from jobs.settings import InduceSettings, LlmSettings
from jobs.taxonomy import Tag, Taxonomy, dump_taxonomy, parse_taxonomy
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
    _, steps = revise(answering(lambda a, b: "one"), InduceSettings(pairs=0))
    assert {step["step"] for step in steps} == {"name"}


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
    assert pairs and all("halves of one group two wishes" in step["reason"] for step in pairs)


def test_what_the_judge_does_not_answer_the_cut_decides() -> None:
    given, grouping = cut_fine()

    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "# Group A:" in prompt and "address" in prompt.lower() and "claim" in prompt.lower():
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


def test_headings_have_at_most_three_levels_and_every_member_once() -> None:
    picker = np.random.default_rng(2)
    centres = np.repeat(np.eye(4), 12, axis=0) + picker.normal(0, 0.1, (48, 4))
    topics = topic_tree(centres.astype(np.float32))
    top = [topic for topic in topics if topic.parent is None]
    assert sorted(m for topic in top for m in topic.members) == list(range(48))
    for topic in topics:
        if topic.parent is not None:
            above = topics[topic.parent]
            assert above.parent is None and set(topic.members) < set(above.members)
    assert any(topic.parent is not None for topic in topics)
    assert topic_tree(centres[:5].astype(np.float32)) == []


def test_headings_stand_in_the_file_and_over_their_tags() -> None:
    given, grouping = material()
    draft = name_and_revise(given, grouping, None, InduceSettings(), whole_chats=False)
    namings = {group.number: keyword_naming(group, "en") for group in draft.groups}
    headings = [
        (Topic((0, 1)), Naming("Access", "The customer cannot get in.")),
        (Topic((0,), 0), keyword_topic(["password"], [namings[0].name], "en")),
    ]
    built = build_taxonomy(draft.groups, namings, headings, name="x", language="en")
    read = parse_taxonomy(yaml.safe_load(dump_taxonomy(built)), "x.yaml")
    top, below = read.topics
    assert (below.parent, read.tags[0].parent, read.tags[1].parent) == (top.id, below.id, top.id)
    assert read.tags[2].parent is None and len(read.tag_ids) == 4 and top.id not in read.tag_ids
    assert read.content_hash == build_taxonomy(draft.groups, namings, name="x", language="en").content_hash


@pytest.mark.parametrize("parents", [{"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "d"}, {"a": "gone"}])
def test_parents_in_a_circle_unknown_or_beyond_three_levels_are_refused(parents: dict[str, str]) -> None:
    tags = [{"id": i, "name": i, "definition": "Something.", "parent": parents.get(i)} for i in "abcd"]
    with pytest.raises(InputError, match=r"tag a: (?:parents go|unknown parent)"):
        parse_taxonomy({"tags": tags}, "x.yaml")


def test_the_llm_names_the_largest_headings_and_no_tag_twice() -> None:
    namings = {n: Naming(name, f"The customer wants {name}.") for n, name in enumerate(["pay", "refund", "login"])}
    answers = iter(["Money", "login"])

    def script(body: dict[str, Any]) -> Reply:
        return reply_json({"name": next(answers), "definition": "The customer speaks of this."})

    with FakeLlm(script) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        given = ask_topics(asker, [Topic((2,)), Topic((0, 1))], namings, "en", most=1)
        assert {place: naming.name for place, naming in given.items()} == {1: "Money"}
        assert ask_topics(asker, [Topic((2,)), Topic((0, 1))], namings, "en", most=1) == {}
    assert "duplicate" in asker.steps[-1]["reason"]


TAXONOMY = Taxonomy(
    "x", 1, tuple(Tag(i, f"Name {i}", f"The customer wants {i}.") for i in ("red", "blue", "green")), language="en"
)


def held(*words: str) -> list[CustomerTurn]:
    return [CustomerTurn(f"h{i}", 0, f"I want {word}", f"I want {word}", True) for i, word in enumerate(words)]


def test_tags_that_cannot_be_told_apart_are_reported_with_counts() -> None:
    turns = held(*"rrrrbbbg")
    found = compare(TAXONOMY, turns, [0, 0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 0, 1, None, -1], "a reader")
    assert (found.turns, found.agreed, found.none, found.conversations) == (7, 3, 1, 7)
    assert [(c.first, c.second, c.count, c.of) for c in found.confusions] == [("red", "blue", 3, 6)]
    assert found.tags == (("red", 4, 2), ("blue", 2, 1), ("green", 1, 0))
    page = yaml.safe_load(critic_yaml(found, TAXONOMY))
    assert page["cannot_be_told_apart"][0]["names"] == ["Name red", "Name blue"]


def embed(texts: Sequence[str]) -> FloatArray:
    rows = [[float(colour in text) for colour in ("red", "blue", "green", "hello")] for text in texts]
    return np.array(rows, dtype=np.float32) + np.float32(0.01)


def test_the_critic_reads_definitions_only_and_leaves_small_talk_out() -> None:
    known = embed([*(["red"] * 5), *(["blue"] * 5), *(["green"] * 5), *(["hello"] * 5)]), np.repeat(np.arange(4), 5)
    turns = held("red", "blue", "green", "hello")
    plain = criticise(TAXONOMY, turns, known, embed, asker=None, most=9)
    assert plain is not None and (plain.turns, plain.agreed) == (3, 3)

    def script(body: dict[str, Any]) -> Reply:
        tags, message = body["messages"][-1]["content"].split("# Message")
        listed = [line for line in tags.split("# Tags")[1].splitlines() if line.strip()]
        return reply_json({"tag": next(n for n, line in enumerate(listed, 1) if message.split()[2] in line)})

    with FakeLlm(script) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        read = criticise(TAXONOMY, turns, known, embed, asker=asker, most=2)
    assert read is not None and (read.turns, read.agreed, len(fake.requests)) == (2, 2, 2)
    assert read.by.startswith("LLM") and {step["step"] for step in asker.steps} == {"critic"}
    assert criticise(TAXONOMY, [], known, embed, asker=None, most=9) is None


def test_a_reader_who_always_gives_the_same_number_does_not_count() -> None:
    known = embed([*(["red"] * 5), *(["blue"] * 5), *(["green"] * 5)]), np.repeat(np.arange(3), 5)
    turns = held(*["red", "blue", "green"] * 5)
    with FakeLlm(reply_json({"tag": 1})) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        found = criticise(TAXONOMY, turns, known, embed, asker=asker, most=15)
    assert found is not None and "no answer of the LLM counted" in found.by and found.agreed == 15
    assert all("same number" in step["reason"] for step in asker.steps)


def test_small_talk_is_told_from_wishes_in_both_languages() -> None:
    assert is_small_talk(["收到了", "先挂了哈", "喂？能听到吗", "改天再聊", "我要赎回基金"])
    assert not is_small_talk(["我要赎回基金", "手续费怎么收的", "改天再聊"])
    assert is_small_talk(["talk to you later", "can you hear me", "happy holidays"])
    assert not is_small_talk(["block my card", "talk to you later", "what is the fee"])


def test_groups_of_small_talk_become_no_tag_in_whole_chats_alone() -> None:
    given, grouping = material()
    idle = [
        CustomerTurn(t.conversation_id, 0, "talk to you later", "talk to you later", True) if g == 0 else t
        for t, g in zip(given.turns, grouping.labels.tolist(), strict=True)
    ]
    chats = Material(idle, given.sentences, given.features, "en")
    draft = name_and_revise(chats, grouping, None, InduceSettings(), whole_chats=True)
    assert draft.wishes == 3 and draft.grouping.labels.tolist()[:6] == [3] * 6
    kept = name_and_revise(chats, grouping, None, InduceSettings(), whole_chats=False)
    assert kept.wishes == 4
