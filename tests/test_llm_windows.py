"""Conversations longer than the context: every word is shown, once paid, and put together again."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise
from typing import Any

import pytest

from jobs.conversation import Conversation, Turn
from jobs.labelling.windows import merged
from jobs.llm.client import LlmClient
from jobs.llm.labelling import LabelPrompt, label_conversations
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.llm.windows import window_size
from jobs.settings import LlmSettings
from jobs.taxonomy import Taxonomy, parse_taxonomy
from tests.fake_llm import MODEL, FakeLlm, Reply, reply_json

LINE = re.compile(r"^(\d+) (客户|顾问)：", re.MULTILINE)


def taxonomy(definition: str = "客户想卖出或转走。") -> Taxonomy:
    tags = [{"id": "redemption", "name": "赎回转出", "definition": definition}, {"id": "maturity", "name": "到期"}]
    return parse_taxonomy({"taxonomy": "t", "version": 1, "language": "zh", "tags": tags}, "test")


def profile(url: str = "http://127.0.0.1:1/v1", **changes: Any) -> ServingProfile:
    small = {"context_length": 2048, "max_output_tokens": 128, "tokens_per_wide_char": 1.0} | changes
    return read_profile(PROFILES / "endpoint.yaml", url, MODEL).model_copy(update=small)


def long_chat(turns: int = 60, chars: int = 60) -> Conversation:
    """Far longer than the context; the customer speaks on even turns."""
    said = [Turn("customer" if i % 2 == 0 else "agent", f"第{i}句" + chr(0x4E00 + i) * chars) for i in range(turns - 1)]
    return Conversation("long", (*said, Turn("customer", "最后我想把基金赎回")))


def shown_turns(text: str) -> list[int]:
    return [int(number) for number, _ in LINE.findall(text)]


def test_one_window_keeps_the_conversations_key() -> None:
    chat = Conversation("c", (Turn("agent", "您好"), Turn("customer", "我想赎回")))
    (only,) = LabelPrompt(taxonomy(), profile()).windows(chat)
    assert only.content_hash == chat.content_hash and only.customer_turns == chat.customer_turns
    assert (only.first_turn, only.last_turn, only.cut) == (0, 1, False)


@pytest.mark.parametrize("overlap", [0, 2, 5])
def test_windows_show_every_turn_and_overlap(overlap: int) -> None:
    prompt, chat = LabelPrompt(taxonomy(), profile(), overlap=overlap), long_chat()
    found = prompt.windows(chat)
    assert len(found) > 3 and len({w.content_hash for w in found} | {chat.content_hash}) == len(found) + 1
    assert [shown_turns(w.text) for w in found] == [list(range(w.first_turn, w.last_turn + 1)) for w in found]
    for before, after in pairwise(found):
        assert before.last_turn - after.first_turn + 1 == overlap
    assert (found[0].first_turn, found[-1].last_turn) == (0, 59)
    assert {turn for w in found for turn in w.customer_turns} == set(chat.customer_turns)
    assert all(len(w.text) <= prompt.budget for w in found)


def test_a_redefined_tag_shifts_no_window() -> None:
    keys = [
        [w.content_hash for w in LabelPrompt(taxonomy(definition), profile()).windows(long_chat())]
        for definition in ("客户想卖出或转走。", "客户想把手里的基金、理财卖掉，或者把钱转到别处去。")
    ]
    assert keys[0] == keys[1]


def test_a_conversation_that_grows_asks_about_its_end_alone() -> None:
    prompt, chat = LabelPrompt(taxonomy(), profile()), long_chat()
    longer = Conversation("long", (*chat.turns, Turn("customer", "再问一句")))
    before, after = ([w.content_hash for w in prompt.windows(c)] for c in (chat, longer))
    assert after[:-1] == before[:-1] and after[-1] != before[-1]


def test_an_endless_turn_of_the_customers_is_read_to_its_end_and_an_agents_is_not() -> None:
    article = "".join(chr(0x4E00 + i) for i in range(5000))
    prompt = LabelPrompt(taxonomy(), profile())
    found = prompt.windows(Conversation("a", (Turn("customer", article), Turn("customer", "帮我看看"))))
    assert len(found) > 3 and not any(w.cut for w in found)
    assert set(article) <= set("".join(w.text for w in found))
    assert {turn for w in found for turn, _ in w.customer_turns} == {0, 1}
    (only,) = prompt.windows(Conversation("b", (Turn("agent", article), Turn("customer", "帮我看看"))))
    assert only.cut and "帮我看看" in only.text


def test_a_turn_that_repeats_itself_is_asked_about_once() -> None:
    prompt = LabelPrompt(taxonomy(), profile())
    found = prompt.windows(Conversation("r", (Turn("customer", "哈" * 20_000), Turn("customer", "我想赎回"))))
    assert 1 < len(found) == len({w.content_hash for w in found})
    assert "我想赎回" in found[-1].text


def test_what_the_agent_says_alone_is_not_asked_about() -> None:
    turns = (
        Turn("customer", "你好"),
        *(Turn("agent", chr(0x4E00 + i) * 300) for i in range(20)),
        Turn("customer", "赎回"),
    )
    found = LabelPrompt(taxonomy(), profile()).windows(Conversation("c", turns))
    assert len(found) == 2 and all(w.customer_turns for w in found)
    (only,) = LabelPrompt(taxonomy(), profile()).windows(Conversation("d", turns[1:-1]))
    assert only.customer_turns == ()


def test_windows_are_rounded_coarsely() -> None:
    assert window_size(12_616, 16_384) == window_size(12_300, 16_384) == 6 * 2048
    assert window_size(200, 2048) == 128
    assert window_size(65, 16_384) == 64


def oracle(body: dict[str, Any]) -> Reply:
    said = body["messages"][-1]["content"]
    number = next((int(line.split(" ")[0]) for line in said.splitlines() if "赎回" in line), None)
    tags = [] if number is None else [{"tag": "redemption", "turns": [number], "quote": "赎回"}]
    return reply_json({"tags": tags, "cannot_tell": False})


def test_each_window_is_asked_once_and_the_last_ones_tag_is_found() -> None:
    """The way of `evaluate`: whole conversations in, one outcome for each."""
    short = Conversation("short", (Turn("customer", "没事"),))
    with FakeLlm(oracle) as fake:
        at = profile(fake.base_url)
        prompt = LabelPrompt(taxonomy(), at)

        async def run() -> list[Any]:
            async with LlmClient(at, LlmSettings(retries=0)) as client:
                return list(await label_conversations(client, prompt, [long_chat(), short]))

        first, second = asyncio.run(run())
        texts = [body["messages"][-1]["content"] for body in fake.requests]
    assert len(texts) == len(set(texts)) == len(prompt.windows(long_chat())) + 1
    assert (first.conversation_id, first.content_hash) == ("long", long_chat().content_hash)
    assert [(tag.tag, [e.turn for e in tag.evidence]) for tag in first.answer.tags] == [("redemption", [59])]
    assert first.attempts == len(texts) - 1 and second.answer.tags == ()


def test_a_window_that_fails_leaves_its_conversation_without_an_answer() -> None:
    with FakeLlm([oracle, Reply("no JSON"), oracle]) as fake:
        at = profile(fake.base_url)

        async def run() -> list[Any]:
            async with LlmClient(at, LlmSettings(retries=0, in_flight=1)) as client:
                return list(await label_conversations(client, LabelPrompt(taxonomy(), at), [long_chat()]))

        (outcome,) = asyncio.run(run())
    assert outcome.answer is None and "not_json" in outcome.failure.detail


def entry(verdict: str, windows: int = 3, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"tag_id": "t", "confidence": None, "evidence": [], "unusable_nights": 0, "windows": windows}
    return base | {"verdict": verdict} | more


def said(turn: int) -> list[dict[str, Any]]:
    return [{"turn": turn, "quote": f"q{turn}"}]


def test_windows_are_merged_by_rule() -> None:
    seen = [
        entry("present", confidence=0.6, evidence=said(9)),
        entry("absent"),
        entry("present", confidence=0.8, evidence=said(4) + said(9)),
    ]
    (found,) = merged(seen)
    assert (found["verdict"], found["confidence"]) == ("present", 0.8), "the surest window's"
    assert found["evidence"] == said(4) + said(9), "each once, in order"
    verdicts = {
        ("absent", "absent", "absent"): ["absent"],
        ("absent", "cannot_tell", "absent"): ["cannot_tell"],
        ("absent", "present"): ["present"],
        ("absent", "absent"): [],
        ("absent", "unusable"): [],
        ("unusable", "absent", "cannot_tell"): ["unusable"],
    }
    for some, expected in verdicts.items():
        assert [e["verdict"] for e in merged([entry(v) for v in some])] == expected, json.dumps(some)
    tried = [entry("unusable", unusable_nights=3), entry("unusable", unusable_nights=1), entry("absent")]
    assert merged(tried)[0]["unusable_nights"] == 1, "it is asked again"
    assert merged([entry("absent", windows=1)]) == [entry("absent", windows=1)]
