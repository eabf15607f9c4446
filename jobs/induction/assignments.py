"""The file that says which tag induction gave each customer turn, read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.errors import InputError
from jobs.json_lines import json_lines


def read_assignments(path: Path) -> Iterator[tuple[str, int, str]]:
    """(conversation, turn from 0, tag) of every line.

    Raises:
        InputError: the file cannot be read, or a line is not as induction wrote it.
    """
    seen: set[tuple[str, int]] = set()
    for where, row in json_lines(path):
        match row:
            case {"conversation_id": str(chat), "turn": int(turn), "tag": str(tag)} if (chat, turn) not in seen:
                seen.add((chat, turn))
                yield chat, turn, tag
            case _:
                raise InputError(f"{where}: not as induction wrote it (conversation_id, turn, tag; a turn once)")
