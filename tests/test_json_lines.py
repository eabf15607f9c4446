"""The reader of JSON Lines files that people hand in, and who reads by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.conversation import Turn, read_conversations
from jobs.errors import InputError
from jobs.evaluation.flips import read_labelling
from jobs.induction.assignments import read_assignments

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "conversations": (read_conversations, '{"conversation_id": "1", "turns": [{"speaker": "customer", "text": "hi"}]}'),
    "labels": (read_labelling, '{"conversation_id": "1", "labels": ["a"]}'),
    "assignments": (lambda path: list(read_assignments(path)), '{"conversation_id": "1", "turn": 0, "tag": "a"}'),
}
READ = pytest.mark.parametrize(("read", "line"), READERS.values(), ids=READERS)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@READ
def test_a_byte_order_mark_carriage_returns_and_blank_lines_change_nothing(
    read: Callable[[Path], Any], line: str, tmp_path: Path
) -> None:
    plain = read(written(tmp_path / "plain", f"{line}\n".encode()))
    assert len(plain) == 1
    assert read(written(tmp_path / "odd", f"\ufeff\r\n{line}\r\n\r\n".encode())) == plain
    assert read(written(tmp_path / "cut", line.encode())) == plain


@READ
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"no json", ":3: not JSON"),
        (b'{"conversation_id": "2", ', ":3: not JSON"),
        (b"[" * 100_000, ":3: not JSON"),
        (b"1" * 5_000, ":3: not JSON"),
        (b"\xff", "not UTF-8"),
        (b"3", ":3: "),
        (b"{}", ":3: "),
        (b'{"conversation_id": null, "turns": 3, "labels": "a", "turn": "0", "tag": 1}', ":3: "),
    ],
)
def test_a_bad_line_is_said_with_its_number(
    read: Callable[[Path], Any], line: str, bad: bytes, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        read(written(tmp_path / "x", f"\n{line}\n".encode() + bad + b"\n"))


@READ
def test_a_line_given_twice_is_said_with_its_number(read: Callable[[Path], Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=":2: "):
        read(written(tmp_path / "x", f"{line}\n{line}\n".encode()))


@READ
def test_what_is_no_file_is_said(read: Callable[[Path], Any], line: str, tmp_path: Path) -> None:
    for path, why in (
        (tmp_path, "a folder, not a file"),
        (tmp_path / "missing", "no such file"),
        (tmp_path / ("x" * 300), "cannot be read .File name too long"),
    ):
        with pytest.raises(InputError, match=why):
            read(path)


@pytest.mark.parametrize("labels", [[None], [float("nan")], [{"tag": "a"}], [["a"]], [True], [""], [" "], ["\\ud83d"]])
def test_labels_that_are_no_names_are_refused(labels: list[Any], tmp_path: Path) -> None:
    """They would be scored as tags called `None` or `{'tag': 'a'}`; half of an emoji no file could hold."""
    given = json.dumps(labels).replace("\\\\", "\\")
    turns = '"turns": [{"speaker": "customer", "text": "hi"}]'
    with pytest.raises(InputError, match=":1: labels must be a list of strings"):
        read_conversations(written(tmp_path / "a", f'{{"conversation_id": "1", {turns}, "labels": {given}}}'.encode()))
    with pytest.raises(InputError, match=":1: labels must be a list of strings"):
        read_labelling(written(tmp_path / "b", f'{{"conversation_id": "1", "labels": {given}}}'.encode()))
    turn_labels = f'"turn_labels": [{given}]'
    with pytest.raises(InputError, match=":1: turn_labels"):
        read_conversations(written(tmp_path / "c", f'{{"conversation_id": "1", {turns}, {turn_labels}}}'.encode()))


def test_numbers_are_labels_and_half_of_an_emoji_is_no_id(tmp_path: Path) -> None:
    line = '{"conversation_id": %s, "turns": [{"speaker": "customer", "text": "\\ud83d"}], "labels": [7, "a", "a"]}\n'
    found = read_conversations(written(tmp_path / "x", (line % "1").encode()))[0]
    assert (found.conversation_id, found.labels, found.turns) == ("1", ("7", "a"), (Turn("customer", "\ud83d"),))
    with pytest.raises(InputError, match=":1: conversation_id"):
        read_conversations(written(tmp_path / "x", (line % '"\\ud83d"').encode()))
