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

from jobs.errors import InputError
from jobs.settings import Settings


def request_key(request: dict[str, Any]) -> bytes:
    """SHA-256 of a request as it is sent: model, messages, grammar, bounds and seed."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """Request → answer in one SQLite file on a local disk, written through at once; questions are not in it.

    It can be deleted at any time: what it held is asked again.
    """

    path: Path

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for `get` and `put`; what was put stays, whatever happens to this process.

        Raises:
            InputError: the file cannot be used.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=120.0, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(f"{self.path}: the kept answers cannot be opened ({error})") from error
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID")
            yield connection
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: the kept answers cannot be used ({error}); delete the file") from error
        finally:
            connection.close()


def kept_answers(settings: Settings) -> KeptAnswers:
    """What induction was answered, under `var`."""
    return KeptAnswers(settings.var_dir / "cache" / "induction.sqlite")


def get(connection: sqlite3.Connection, key: bytes) -> str | None:
    """The answer kept for this request, or None."""
    row = connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else None


def put(connection: sqlite3.Connection, key: bytes, answer: str) -> None:
    """Keep an answer at once."""
    connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))
