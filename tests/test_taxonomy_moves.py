"""What a change of the taxonomy moves: counted on a sample by an LLM that labels it under both, nothing saved."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.conversation import Conversation, Turn
from jobs.errors import InputError, ServerError
from jobs.settings import Settings
from jobs.taxonomies.moves import Move, compare, moves, moves_in_words
from jobs.taxonomy import Tag, Taxonomy
from jobs.taxonomy_diff import diff_taxonomies
from tests.fake_llm import FakeLlm, Reply, reply_json, reply_status
from tests.small_night import at

OLD = Taxonomy(
    "small",
    1,
    (
        Tag("sale", "赎回转出", "想卖出或转走。"),
        Tag("fees", "收费", "问收费。"),
        Tag("service", "服务", "问服务。"),
        Tag("maturity", "到期", "产品到期。"),
        Tag("weather", "天气", "说天气。"),
    ),
)
# split, merged, redefined, removed, added, and one renamed
NEW = Taxonomy(
    "small",
    2,
    (
        Tag("sell", "卖出", "想卖出。", extra={"replaces": ["sale"]}),
        Tag("move", "转走", "想把钱转走。", extra={"replaces": ["sale"]}),
        Tag("help", "咨询", "问收费或服务。", extra={"replaces": ["fees", "service"]}),
        Tag("maturity", "到期承接", "产品到期要接续。"),
        Tag("gold_bars", "金条", "想买金条。"),
    ),
)
SAID = {
    "c1": ("我要卖出", {"sale"}, {"sell"}),
    "c2": ("钱转走吧", {"sale"}, {"move"}),
    "c3": ("赎回的事再说", {"sale"}, set[str]()),
    "c4": ("收费多少", {"fees"}, {"help"}),
    "c5": ("到期了接着买", {"maturity"}, {"maturity"}),
    "c6": ("到期就到期呗", {"maturity"}, set[str]()),
    "c7": ("想买金条，不是天气", {"weather"}, {"gold_bars"}),
    "c8": ("在吗", set[str](), set[str]()),
}
CHATS = [Conversation(name, (Turn("customer", text),)) for name, (text, _, _) in SAID.items()]
WEIGHTS = {chat.conversation_id: 93.0 if chat.conversation_id == "c8" else 1.0 for chat in CHATS}
ROWS = (
    Move("金条", "added", 0, 1, 0),
    Move("到期承接", "redefined", 2, 1, 1),
    Move("赎回转出", "split", 3, 2, 2),
    Move("卖出", "part of 赎回转出", 3, 1, 1),
    Move("转走", "part of 赎回转出", 3, 1, 1),
    Move("咨询", "merged", 1, 1, 1),
    Move("天气", "removed", 1, 0, 0),
)


def labeller(body: dict[str, Any]) -> Reply:
    """Knows every chat under both versions, which it tells apart by what the prompt defines."""
    system, said = (message["content"] for message in body["messages"])
    text, old, new = next(entry for entry in SAID.values() if entry[0] in said)
    tags = new if "想买金条。" in system else old
    return reply_json({"tags": [{"tag": t, "turns": [0], "quote": text[:2]} for t in tags], "cannot_tell": False})


def test_every_kind_of_change_is_counted_once() -> None:
    before = {name: frozenset(old) for name, (_, old, _) in SAID.items()}
    after = {name: frozenset(new) for name, (_, _, new) in SAID.items()}
    moved, rows = compare(OLD, NEW, before, after)
    assert rows == ROWS
    assert len(moved) == 3, (
        "c3 lost its split tag, c6 its redefined one, c7 changed; the heirs' own shares are no moves"
    )


def test_who_goes_to_an_heir_of_a_split_has_not_left_a_merge() -> None:
    old = Taxonomy("t", 1, (Tag("home", "房", "房"), Tag("car", "车", "车")))
    heirs = (
        Tag("x", "大件", "x", extra={"replaces": ["home", "car"]}),
        Tag("y", "首套", "y", extra={"replaces": ["home"]}),
    )
    moved, _ = compare(old, Taxonomy("t", 2, heirs), {"c1": {"home"}, "c2": {"home"}}, {"c1": {"y"}, "c2": {"y"}})
    assert moved == set()


CROSSWISE = (
    Taxonomy("t", 1, (Tag("home", "房", "房"), Tag("car", "车", "车"))),
    Taxonomy(
        "t",
        2,
        (
            Tag("big", "大件", "x", extra={"replaces": ["home", "car"]}),
            Tag("first", "首套", "y", extra={"replaces": ["home"]}),
        ),
    ),
)


def test_an_heir_of_two_tags_is_counted_once_and_who_goes_to_it_has_not_moved() -> None:
    before = {"c1": {"home"}, "c2": {"car"}, "c3": {"home"}, "c4": set[str]()}
    after = {"c1": {"big"}, "c2": {"big"}, "c3": {"first"}, "c4": {"big"}}
    moved, rows = compare(*CROSSWISE, before, after)
    assert moved == {"c4"}
    assert rows == (
        Move("房 and 车", "split and merged", 3, 4, 3),
        Move("大件", "part of 房 and 车", 3, 3, 2),
        Move("首套", "part of 房", 2, 1, 1),
    )


def test_an_heir_of_two_splits_is_counted_once() -> None:
    new = (*CROSSWISE[1].tags, Tag("lease", "租车", "z", extra={"replaces": ["car"]}))
    before = {"c1": {"home"}, "c2": {"car"}, "c3": {"car"}}
    moved, rows = compare(CROSSWISE[0], Taxonomy("t", 2, new), before, {"c1": {"big"}, "c2": {"big"}, "c3": {"lease"}})
    assert moved == set() and [row.name for row in rows] == ["房 and 车", "大件", "首套", "租车"]


def test_a_tag_that_takes_another_in_is_one_change() -> None:
    new = Taxonomy("t", 2, (Tag("home", "房车", "房或车", extra={"replaces": ["car"]}),))
    moved, rows = compare(CROSSWISE[0], new, {"c1": {"home"}, "c2": {"car"}}, {"c1": {"home"}, "c2": {"home"}})
    assert moved == set() and rows == (Move("房车", "merged", 2, 2, 2),)


def test_tags_that_were_split_or_merged_are_not_said_to_be_far_from_all() -> None:
    assert diff_taxonomies(OLD, NEW).uncovered == (OLD.tag("weather"),)


def test_the_sample_is_labelled_under_both_and_nothing_is_saved(settings: Settings) -> None:
    seen: list[str] = []
    with FakeLlm(labeller) as fake:
        found = moves(
            at(settings, fake.base_url), OLD, NEW, CHATS, lambda what, done, total: seen.append(what), weights=WEIGHTS
        )
    assert (found.compared, found.moved, found.unanswered, found.requests) == (8, 3, 0, 16)
    assert found.tags == ROWS and set(seen) == {"as it is", "as it would be"}
    assert not settings.warehouse.exists()
    page = moves_in_words(found)
    assert page.startswith("3 of 8 sampled conversations move; they stand for some 3% of all")
    assert "| 赎回转出 | split | 3 | 2 | 0 | 1 |" in page and "| 金条 | added | 0 | 1 | 1 | 0 |" in page


def test_conversations_without_a_usable_answer_are_not_compared(settings: Settings) -> None:
    def stubborn(body: dict[str, Any]) -> Reply:
        return Reply("？") if "我要卖出" in body["messages"][-1]["content"] else labeller(body)

    with FakeLlm(stubborn) as fake:
        found = moves(at(settings, fake.base_url), OLD, NEW, CHATS, weights=WEIGHTS)
    assert (found.compared, found.unanswered) == (7, 1)
    assert next(move for move in found.tags if move.change == "split").before == 2


def test_what_cannot_be_counted_is_said(settings: Settings) -> None:
    renamed = Taxonomy("small", 2, tuple(Tag(t.id, t.name + "。", t.definition) for t in OLD.tags))
    with pytest.raises(InputError, match="no moves to count"):
        moves(settings, OLD, renamed, CHATS, weights=WEIGHTS)
    with pytest.raises(ServerError, match="serve up"):
        moves(at(settings, "http://127.0.0.1:9/v1"), OLD, NEW, CHATS, weights=WEIGHTS)
    files = settings.model_copy(update={"llm": settings.llm.model_copy(update={"mode": "files"})})
    with pytest.raises(InputError, match="server"):
        moves(files, OLD, NEW, CHATS, weights=WEIGHTS)
    with FakeLlm(reply_status(500)) as fake, pytest.raises(ServerError, match="no usable answer"):
        moves(at(settings, fake.base_url), OLD, NEW, CHATS, weights=WEIGHTS)
