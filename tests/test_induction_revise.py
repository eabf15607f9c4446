"""Headings, the critic, and small talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.errors import InputError
from jobs.induction.asking import Asker
from jobs.induction.critic import compare, critic_yaml, criticise
from jobs.induction.features import FloatArray
from jobs.induction.groups import Topic
from jobs.induction.hierarchy import ask_topics, keyword_topic, topic_tree
from jobs.induction.proposal import Naming, build_taxonomy, keyword_naming
from jobs.induction.revise import Material, name_and_revise
from jobs.induction.smalltalk import is_small_talk
from jobs.induction.turns import CustomerTurn
from jobs.settings import InduceSettings, LlmSettings
from jobs.taxonomy import Tag, Taxonomy, dump_taxonomy, parse_taxonomy
from tests.fake_llm import FakeLlm, Reply, reply_json
from tests.test_induction_judge import material
from tests.test_induction_naming import profile

LLM = LlmSettings(retries=0, backoff_seconds=0.01, timeout_seconds=10)


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
