"""A throw-away PostgreSQL server for the tests: loopback only, a free port, its own folder, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.engine import URL

URL_VARIABLE = "DONGCHA_TEST_POSTGRES_URL"
PASSWORD = "geheim-im-test"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parent.parent.name))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    pytest.fail(
        "no PostgreSQL server (initdb) on this machine: run tests/install-services.sh, "
        f"or set {URL_VARIABLE} to a server where databases may be created",
        pytrace=False,
    )


def _unprivileged() -> pwd.struct_passwd:
    """Who the server runs as: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(url: URL, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            psycopg.connect(_dsn(url), connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    pytest.fail(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-2000:]}", pytrace=False)


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def postgres_server() -> Iterator[URL]:
    """A server's administrative URL: of the one that DONGCHA_TEST_POSTGRES_URL names, or of a fresh one."""
    if named := os.environ.get(URL_VARIABLE):
        yield make_url(named).set(drivername="postgresql+psycopg")
        return
    binaries, user = _binaries(), _unprivileged()
    # Not below pytest's tmp_path: those folders belong to root and the server's user may not enter them.
    folder = Path(tempfile.mkdtemp(prefix="dongcha-pg-"))
    log, port = folder / "log", _free_port()
    url = URL.create("postgresql+psycopg", "tester", PASSWORD, "127.0.0.1", port, "postgres")
    try:
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        root = os.getuid() == 0
        uid, gid, groups = (user.pw_uid, user.pw_gid, [user.pw_gid]) if root else (None, None, None)
        initdb = [str(binaries / "initdb"), "-D", "data", "-U", "tester", "--pwfile=password", "-A", "scram-sha-256"]
        subprocess.run(
            [*initdb, "-E", "UTF8", "--no-locale", "-N"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            user=uid,
            group=gid,
            extra_groups=groups,
        )
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            server = subprocess.Popen(
                [str(binaries / "postgres"), "-D", "data", *flags],
                cwd=folder,
                stdout=output,
                stderr=output,
                user=uid,
                group=gid,
                extra_groups=groups,
            )
        try:
            _wait(url, server, log)
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_database(server: URL) -> Iterator[URL]:
    """A fresh database on the server, dropped afterwards."""
    name = f"dongcha_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(_dsn(server), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield server.set(database=name)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
