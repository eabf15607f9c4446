"""Answers of the LLM that counted, kept by what was asked: a run that was killed does not pay for them again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.settings import Settings
from jobs.sqlite_file import key_value_table


def request_key(request: dict[str, Any]) -> bytes:
    """SHA-256 of a request as it is sent: model, messages, grammar, bounds and seed."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class OpenedAnswers:
    """The answers in an open file."""

    connection: sqlite3.Connection

    def get(self, key: bytes) -> str | None:
        """The answer kept for the request with this key, or None."""
        row = self.connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def put(self, key: bytes, answer: str) -> None:
        """Keep an answer at once."""
        with self.connection:
            self.connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """Request → answer in one SQLite file; questions are not in it. What a deleted file held is asked again."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[OpenedAnswers]:
        """The file, open; what was put stays, whatever happens to this process.

        Raises:
            InputError: the file cannot be used.
        """
        with key_value_table(self.path, "answers", "answer TEXT", "kept answers") as connection:
            yield OpenedAnswers(connection)


def kept_answers(settings: Settings) -> KeptAnswers:
    """What induction was answered, under `var`."""
    return KeptAnswers(settings.var_dir / "cache" / "induction.sqlite")
