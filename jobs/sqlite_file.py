"""A table of keys and values in one SQLite file on a local disk, which can be deleted at any time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import InputError

_BUSY_SECONDS = 120.0
_BROKEN = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Codes of a file that is none of ours or damaged."""


@contextmanager
def key_value_table(path: Path, table: str, value: str, what: str) -> Iterator[sqlite3.Connection]:
    """A connection to a file with `table` (key BLOB, `value`), made where it is missing; `what` is its name in errors.

    Many processes may use it at once on one machine (write-ahead log, a long busy timeout), each with a connection of
    its own; what was committed stays, whatever happens to them. SQLite's WAL does not work over network drives.

    Raises:
        InputError: the file cannot be opened, or is none of SQLite's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS)
    except (OSError, sqlite3.OperationalError) as error:
        raise InputError(f"{path}: the {what} cannot be opened ({error})") from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, {value}) WITHOUT ROWID")
        yield connection
    except sqlite3.DatabaseError as error:
        # Not where it is locked or the disk is full: what is in it may have been paid for.
        broken = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
        advice = "; delete the file" if broken else ""
        raise InputError(f"{path}: the {what} cannot be used ({error}){advice}") from error
    finally:
        connection.close()
