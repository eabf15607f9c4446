"""The recovery report: found, partly found, missed and invented tags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.conversation import Conversation, Turn, read_conversations, write_conversations
from jobs.errors import InputError
from jobs.evaluation.recovery import recover, recovery
from jobs.taxonomy import Tag, Taxonomy, dump_taxonomy


def test_found_partly_missed_and_invented() -> None:
    gold = ["a"] * 10 + ["b"] * 10 + ["c"] * 2 + ["d"] * 9
    found = ["x"] * 9 + ["y"] + ["y"] * 10 + ["x", "y"] + ["z", "z", "z", "w", "w", "w", "v", "v", "v"]
    one, many = recover(found, gold)
    by_tag = {entry.reference: entry for entry in one}
    assert (by_tag["a"].induced, by_tag["a"].status) == ("x", "found")
    assert by_tag["a"].precision == by_tag["a"].recall == pytest.approx(0.9)
    assert (by_tag["c"].induced, by_tag["c"].f1, by_tag["c"].status) == (None, 0.0, "missed")
    # Split in three: its partner is pure but holds a third; the others stand for it many to one.
    assert by_tag["d"].precision == 1.0 and by_tag["d"].recall == pytest.approx(1 / 3)
    assert by_tag["d"].status == "found" and by_tag["d"].f1 == pytest.approx(0.5)
    assert {entry.induced for entry in many if entry.reference == "d"} == {"v", "w", "z"}
    assert not any(entry.invented for entry in many)
    _, mixed = recover(["m"] * 3, ["a", "b", "c"])
    assert mixed[0].invented and mixed[0].share == pytest.approx(1 / 3)


def test_turns_put_aside_as_small_talk_recover_and_invent_nothing() -> None:
    one, many = recover(["none"] * 9 + ["x"] * 6, ["a"] * 8 + ["b"] * 7)
    assert [(r.reference, r.turns, r.induced, r.status) for r in one] == [
        ("a", 8, None, "missed"),
        ("b", 7, "x", "found"),
    ]
    assert one[1].precision == 1.0 and one[1].recall == pytest.approx(6 / 7)
    assert [(s.induced, s.turns, s.invented) for s in many] == [("x", 6, False)]
    one, many = recover(["none"] * 2, ["a", "b"])
    assert [r.status for r in one] == ["missed", "missed"] and not many


def test_the_page_names_tags_and_escapes_them(tmp_path: Path) -> None:
    chats = [
        Conversation(str(i), (Turn("customer", "赎回"), Turn("agent", "好")), ("out",), (("out",), ()))
        for i in range(3)
    ]
    write_conversations(tmp_path / "chats.jsonl", chats)
    assert read_conversations(tmp_path / "chats.jsonl") == chats
    tag = Tag("t1", "赎回 | <b>", "客户要赎回")
    (tmp_path / "taxonomy.yaml").write_text(dump_taxonomy(Taxonomy("induced", 1, (tag,), language="zh")), "utf-8")
    lines = [json.dumps({"conversation_id": str(i), "turn": 0, "tag": "t1"}) for i in range(3)]
    with pytest.raises(InputError, match="evaluate-induction"):
        recovery(tmp_path / "chats.jsonl", tmp_path)
    lines[2] = lines[2].replace("t1", "none")
    (tmp_path / "assignments.jsonl").write_text("\n".join(lines), "utf-8")
    counts = recovery(tmp_path / "chats.jsonl", tmp_path)["counts"]
    assert (counts["found"], counts["induced"], counts["put_aside"]) == (1, 1, 1)
    page = (tmp_path / "recovery.md").read_text("utf-8")
    assert "| out | 3 | 赎回 \\| &lt;b&gt; (t1) | 1.00 | 0.67 | 0.80 | found |" in page
    assert "3 labelled customer turns, 1 of them put aside as small talk." in page


def induced(folder: Path, lines: list[str]) -> Path:
    """A folder as `evaluate-induction` leaves it, with tag t1, and three labelled chats beside it."""
    chats = [Conversation(str(i), (Turn("customer", "赎回"),), None, (("out",),)) for i in range(3)]
    write_conversations(folder / "chats.jsonl", chats)
    tag = Tag("t1", "赎回", "客户要赎回")
    (folder / "taxonomy.yaml").write_text(dump_taxonomy(Taxonomy("induced", 1, (tag,), language="zh")), "utf-8")
    (folder / "assignments.jsonl").write_text("\n".join(lines), "utf-8")
    return folder / "chats.jsonl"


def assigned(chat: int, turn: object = 0) -> str:
    return json.dumps({"conversation_id": str(chat), "turn": turn, "tag": "t1"})


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([assigned(0), "no json"], "assignments.jsonl:2: not JSON"),
        ([assigned(0), "{}"], "assignments.jsonl:2: not as induction wrote it"),
        ([assigned(0), "", assigned(1, "0")], "assignments.jsonl:3: not as induction wrote it"),
        ([assigned(0), "[]"], "assignments.jsonl:2: not as induction wrote it"),
        ([assigned(0), assigned(0)], "assignments.jsonl:2: not as induction wrote it"),
        ([], "none of the assigned turns has gold"),
        ([assigned(7)], "none of the assigned turns has gold"),
        ([assigned(0), assigned(2)], "1 of 3 labelled turns are not in .*assignments.jsonl: give the file"),
    ],
)
def test_assignments_that_are_not_those_of_the_file_are_refused(lines: list[str], says: str, tmp_path: Path) -> None:
    chats = induced(tmp_path, lines)
    with pytest.raises(InputError, match=says):
        recovery(chats, tmp_path)
    assert not (tmp_path / "recovery.json").exists()


def test_a_file_with_a_byte_order_mark_and_carriage_returns_is_read(tmp_path: Path) -> None:
    chats = induced(tmp_path, [])
    (tmp_path / "assignments.jsonl").write_bytes(("\ufeff" + "\r\n".join(map(assigned, range(3)))).encode())
    assert recovery(chats, tmp_path)["counts"]["found"] == 1
