"""Files of people's own chats: what is wrong with a line is said with what to write instead."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.conversation import read_conversations
from jobs.errors import InputError

LINE: dict[str, Any] = {
    "conversation_id": "42",
    "turns": [{"speaker": "agent", "text": "您好"}, {"speaker": "customer", "text": "理财到期了"}],
    "labels": ["maturity"],
    "turn_labels": [[], ["maturity"]],
}


def written(tmp_path: Path, *lines: dict[str, Any] | str) -> Path:
    path = tmp_path / "chats.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts), "utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"turns": "理财到期了"}, r"turns must be a list .*\"speaker\""),
        ({"turns": []}, r"turns must be a list .*\"speaker\""),
        ({"turns": ["理财到期了"]}, r"turn 0 must be .*\"text\""),
        ({"turns": [{"speaker": "customer", "text": 7}]}, r"turn 0 must be .*\"text\""),
        ({"conversation_id": 7.0}, "conversation_id must be a string or a whole number"),
        ({"conversation_id": " "}, "conversation_id must be a string or a whole number"),
        ({"labels": "maturity"}, r"labels must be a list of strings .*\[\] where no tag applies"),
        ({"labels": [None]}, "labels must be a list of strings"),
        ({"labels": [{"tag": "maturity"}]}, "labels must be a list of strings"),
        ({"labels": [""]}, "labels must be a list of strings"),
        ({"labels": [1.5]}, "labels must be a list of strings"),
        ({"turn_labels": [["maturity"]]}, r"turn_labels must hold a list for each of the 2 turns"),
        ({"turn_labels": ["", "maturity"]}, "turn_labels: each entry must be a list of strings"),
        ({"turn_labels": [[], [None]]}, "turn_labels: each entry must be a list of strings"),
    ],
)
def test_a_line_that_cannot_be_used_says_what_belongs_there(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"chats\.jsonl:2: {said}") as caught:
        read_conversations(written(tmp_path, LINE | {"conversation_id": 1}, LINE | change))
    assert "理财" not in str(caught.value)


@pytest.mark.parametrize("speaker", ["custommer", "Customer", "客户", None])
def test_a_file_without_a_customer_is_refused(tmp_path: Path, speaker: str | None) -> None:
    chat = LINE | {"turns": [{"speaker": speaker, "text": "理财到期了"}], "turn_labels": None}
    with pytest.raises(InputError, match=r"no turn has the speaker `customer`"):
        read_conversations(written(tmp_path, chat))
    assert len(read_conversations(written(tmp_path, chat, LINE | {"conversation_id": 1}))) == 2


def test_numbers_are_good_for_ids_and_labels(tmp_path: Path) -> None:
    chat = read_conversations(written(tmp_path, LINE | {"conversation_id": 7, "labels": [3]}))[0]
    assert (chat.conversation_id, chat.labels) == ("7", ("3",))


@pytest.mark.parametrize("text", ["id,text\n1,理财到期了", json.dumps([LINE]), json.dumps(LINE, indent=1)])
def test_another_format_is_told_the_one_that_is_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"chats\.jsonl:1: .*one JSON object a line"):
        read_conversations(written(tmp_path, text))


def test_a_packed_file_is_told_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(LINE).encode()))
    with pytest.raises(InputError, match=r"not UTF-8 .*unpack"):
        read_conversations(path)
