"""The CRM's database: one locked transaction, and errors that never show a password or a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from jobs.errors import ContractError, DongchaError, InputError

LOCK_KEY = 0x646F6E6763686121  # "dongcha!" as PostgreSQL's advisory lock
LOCK_SECONDS = 60


def crm_url(text: str) -> URL:
    """The parsed URL of the CRM's database.

    Raises:
        InputError: it is no URL, or of a database that is not supported; the message does not repeat it.
    """
    try:
        url = make_url(text)
        name = f"{url.get_backend_name()}+{url.get_driver_name()}"
    except (ArgumentError, SQLAlchemyError, ValueError, ImportError):
        raise InputError(
            "publish.url is no database URL: expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if name not in ("sqlite+pysqlite", "postgresql+psycopg"):
        raise InputError(f"publish.url: {name} is not supported: use sqlite:// or postgresql+psycopg://")
    return url


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _no_implicit_begin(connection: sqlite3.Connection, _: object) -> None:
    # The sqlite3 module would begin late and leave DDL outside; BEGIN is ours (SQLAlchemy's documented recipe).
    connection.isolation_level = None


def open_engine(url: URL, lock_seconds: int = LOCK_SECONDS) -> Engine:
    """An engine without a pool; SQLite's folder is made, its transactions take the write lock at once."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 15})
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": lock_seconds})
    event.listen(engine, "connect", _no_implicit_begin)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def shown(url: URL) -> str:
    """The address of a database for messages: without its password and without options, which may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def _reason(error: BaseException, url: URL) -> str:
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    lines = str(primary or cause).splitlines() or [type(cause).__name__]
    # Only the first line: the further ones (DETAIL, CONTEXT) quote rows.
    said = lines[0]
    for secret in (url.password, url.query.get("password")):
        said = said.replace(str(secret), "***") if secret else said
    return said


@contextmanager
def locked_transaction(url: URL, lock_seconds: int = LOCK_SECONDS) -> Iterator[Connection]:
    """One transaction that no other publish can interleave with; rolled back on any error.

    Raises:
        ContractError: the database refused rows because of a key or a missing value.
        DongchaError: the database cannot be reached, is locked for longer than `lock_seconds`, or failed.
    """
    engine = open_engine(url, lock_seconds)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(lock_seconds)}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
            yield connection
    except (IntegrityError, psycopg.IntegrityError) as error:
        raise ContractError(
            f"publish to {shown(url)}: a row was refused ({_reason(error, url)}); nothing was published. "
            "Run `check` on the profile tables: it names the rows"
        ) from None
    except (DBAPIError, SQLAlchemyError, psycopg.Error) as error:
        raise DongchaError(f"publish to {shown(url)}: {_reason(error, url)}; nothing was published") from None
    finally:
        engine.dispose()
