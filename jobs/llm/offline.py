"""Requests and answers as files, for clusters without a server (OpenAI's batch format, which `vllm run-batch` reads).

A request's `custom_id` is the hash of what it asks, so it does not matter in which file, of which night, in which
order, or how often it is answered. Each night has a folder: `requests/` (what it was the first to ask), `wanted/` (the
ids of all that its last `label` waits for), `runs/` (what one run was given) and `answers/` (what it gave back, or what
somebody brought from another machine). Beside them lies an index of all nights' files, which can be built anew.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from openai.types.chat import ChatCompletion
from pydantic import ValidationError

from jobs.llm.answers import BadAnswerError
from jobs.llm.exchange import (
    Failure,
    FailureKind,
    LlmResult,
    LlmUsage,
    another_try,
    chat_request,
    read_completion,
)
from jobs.llm.profiles import ServingProfile
from jobs.llm.refusals import ABOUT_ONE_REQUEST, in_words

T = TypeVar("T")
URL = "/v1/chat/completions"
_BUSY_SECONDS = 120.0
_WAITING = Failure(FailureKind.DEFERRED, "waits in a file for `vllm run-batch`")
_TABLES = """
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER);
CREATE TABLE IF NOT EXISTS requests (custom_id TEXT PRIMARY KEY, line TEXT);
CREATE TABLE IF NOT EXISTS answers (custom_id TEXT PRIMARY KEY, status INTEGER, body TEXT);
"""
_OPEN = """
SELECT custom_id, line FROM wanted JOIN requests USING (custom_id)
WHERE custom_id NOT IN (SELECT custom_id FROM answers) ORDER BY custom_id
"""
_COUNT_OPEN = """
SELECT count(*) FROM wanted JOIN requests USING (custom_id) WHERE custom_id NOT IN (SELECT custom_id FROM answers)
"""


class BadLineError(Exception):
    """A line of an answer file that cannot be used; the text says why and holds no word of a chat."""


def request_line(request: dict[str, Any]) -> tuple[str, str]:
    """(custom_id, line) of a request as `chat_request` makes it."""
    body = {name: value for name, value in request.items() if name != "extra_body"} | request["extra_body"]
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    custom_id = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    # ASCII only: half a surrogate pair in a chat must not make a file that is not UTF-8.
    return custom_id, json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": body})


def read_answer(line: str) -> tuple[str, int, dict[str, Any] | None]:
    """(custom_id, HTTP status, body) of a line of an answer file; no body where the request was refused.

    Raises:
        BadLineError: it is no such line, or a failure that another run may mend.
    """
    try:
        row = json.loads(line)
        custom_id, response = str(row["custom_id"]), row["response"] or {}
        status, body = int(response.get("status_code", 0)), response.get("body")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadLineError("not a line of a batch answer") from error
    if status in ABOUT_ONE_REQUEST:
        return custom_id, status, None
    if status != HTTPStatus.OK or not isinstance(body, dict):
        raise BadLineError(f"no answer ({in_words(status)}); asked again by the next run")
    return custom_id, status, body


@dataclass(frozen=True, slots=True)
class Collected:
    """What lies in files: requests of all nights and those answered, requests that this night still waits for, and
    lines of answer files that could not be used, by reason."""

    requests: int
    answered: int
    open: int
    rejected: dict[str, int]


class OfflineFolder:
    """The files of one night, beside those of all others: what one night asked or was answered, all know."""

    def __init__(self, root: Path, ds: str) -> None:
        """`root` holds the folders of all nights."""
        self.root, self.ds, self.folder = root, ds, root / ds
        self.index = root / "index.sqlite"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.index, timeout=_BUSY_SECONDS)) as connection:
            connection.executescript(_TABLES)
            with connection:
                yield connection

    def _changed(self, connection: sqlite3.Connection, kind: str) -> Iterator[Path]:
        known = {name: (size, changed) for name, size, changed in connection.execute("SELECT * FROM files")}
        for path in sorted(self.root.glob(f"*/{kind}/*.jsonl")):
            stat, name = path.stat(), path.relative_to(self.root).as_posix()
            if known.get(name) != (stat.st_size, stat.st_mtime_ns):
                yield path
                connection.execute("REPLACE INTO files VALUES (?, ?, ?)", (name, stat.st_size, stat.st_mtime_ns))

    def collect(self) -> Collected:
        """Read files that are new or have changed. The first answer to a request counts."""
        rejected: dict[str, int] = {}
        with self._open() as connection:
            for path in self._changed(connection, "requests"):
                for line in path.open(encoding="utf-8"):
                    row = (json.loads(line)["custom_id"], line.rstrip("\n"))
                    connection.execute("INSERT OR IGNORE INTO requests VALUES (?, ?)", row)
            for path in self._changed(connection, "answers"):
                for line in path.open(encoding="utf-8", errors="replace"):
                    if reason := self._keep(connection, line):
                        rejected[reason] = rejected.get(reason, 0) + 1
            asked = connection.execute("SELECT count(*) FROM requests").fetchone()[0]
            answered = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
            self._look_up_wanted(connection)
            waiting = connection.execute(_COUNT_OPEN).fetchone()[0]
        return Collected(int(asked), int(answered), int(waiting), rejected)

    def _keep(self, connection: sqlite3.Connection, line: str) -> str | None:
        """Why a line was not kept, None where it was or is blank."""
        if not line.strip():
            return None
        try:
            custom_id, status, body = read_answer(line)
        except BadLineError as error:
            return str(error)
        asked = connection.execute("SELECT line FROM requests WHERE custom_id = ?", (custom_id,)).fetchone()
        if asked is None:
            return "an answer to something that was not asked"
        if body is not None and body.get("model") != json.loads(asked[0])["body"]["model"]:
            return "an answer by another model"
        row = (custom_id, status, json.dumps(body))
        added = connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row).rowcount
        return None if added else "a second answer to the same request"

    def _look_up_wanted(self, connection: sqlite3.Connection) -> None:
        """Fill the table `wanted` with the ids of what this night's last `label` asked for."""
        place = self.folder / "wanted"
        # A night of before there was such a folder waits for all that it asked.
        files = (place if place.is_dir() else self.folder / "requests").glob("*.jsonl")
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (custom_id TEXT PRIMARY KEY)")
        connection.execute("DELETE FROM wanted")
        rows = ((json.loads(line)["custom_id"],) for path in files for line in path.open(encoding="utf-8"))
        connection.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", rows)

    def open_requests(self, most: int, leave_out: Collection[str] = ()) -> Iterator[list[str]]:
        """Lines of requests that this night waits for, in files' worth of at most `most`, in a fixed order.

        `leave_out`: ids of those that are not to be among them.
        """
        with self._open() as connection:
            self._look_up_wanted(connection)
            lines = [line for custom_id, line in connection.execute(_OPEN) if custom_id not in leave_out]
        for start in range(0, len(lines), most):
            yield lines[start : start + most]

    def want_nothing(self) -> None:
        """Forget what this night waits for: a new run of `label` says it anew. What was asked stays known."""
        place = self.folder / "wanted"
        place.mkdir(parents=True, exist_ok=True)
        for path in place.glob("*.jsonl"):
            path.unlink()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The index for lookups, by many processes at once."""
        with self._open():
            pass
        place = f"{self.index.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True, timeout=_BUSY_SECONDS)) as connection:
            yield connection

    def want(self, custom_ids: Iterable[str], new: Sequence[str]) -> None:
        """This night waits for these requests; `new` are the lines of those that no night has asked before."""
        if new:
            _write(self.folder / "requests", new)
        _write(self.folder / "wanted", [json.dumps({"custom_id": custom_id}) for custom_id in custom_ids])


def _write(place: Path, lines: Sequence[str]) -> None:
    """A new file; it appears whole or not at all."""
    place.mkdir(parents=True, exist_ok=True)
    draft = place / f"{uuid.uuid4().hex}.tmp"
    draft.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    draft.replace(draft.with_suffix(".jsonl"))


def known_answer(connection: sqlite3.Connection, custom_id: str) -> tuple[bool, tuple[int, str] | None]:
    """(was it asked, (status, body) of the answer or None)."""
    query = "SELECT status, body FROM requests LEFT JOIN answers USING (custom_id) WHERE custom_id = ?"
    row = connection.execute(query, (custom_id,)).fetchone()
    if row is None or row[0] is None:
        return row is not None, None
    return True, (int(row[0]), str(row[1]))


class OfflineClient:
    """Stands where `LlmClient` does: an answer that any night has counts, every other request is written down.

    Call `OfflineFolder.collect` before, so that the index knows all files. `usage` counts the answers that were used.
    """

    def __init__(self, profile: ServingProfile, folder: OfflineFolder, retries: int, done: int = 0) -> None:
        """`done` tries of each request lie behind it: a replay skips their answers and goes on with other seeds."""
        self.profile, self.usage = profile, LlmUsage()
        self._folder, self._retries, self._done = folder, retries, done
        self._wanted: dict[str, str | None] = {}
        self._stack = ExitStack()

    async def __aenter__(self) -> OfflineClient:
        self._index = self._stack.enter_context(self._folder.reading())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is None and self._wanted:
            self._folder.want(self._wanted, [line for line in self._wanted.values() if line is not None])

    async def ask(
        self,
        messages: Sequence[dict[str, str]],
        schema: dict[str, Any] | None,
        schema_name: str,
        parse: Callable[[str], T],
        max_tokens: int | None = None,
    ) -> LlmResult[T]:
        """The answer that lies there, if `parse` accepts it.

        A bad one is asked again with another seed, as `LlmClient.ask` does, and that request waits for the next run.
        """
        request = chat_request(self.profile, messages, schema, schema_name, max_tokens)
        failure, attempts, reply = _WAITING, 0, ""
        while attempts <= self._retries:
            custom_id, line = request_line(another_try(request, self._done + attempts))
            asked, answer = known_answer(self._index, custom_id)
            if answer is None:
                failure = _WAITING
                self._wanted[custom_id] = None if asked else line
                break
            attempts += 1
            self.usage.requests += 1
            status, body = answer
            if status != HTTPStatus.OK:
                failure = Failure(FailureKind.REJECTED, f"HTTP {status}")
                break
            try:
                return self._read(body, parse, attempts)
            except BadAnswerError as error:
                failure, reply = Failure.bad_answer(error), error.reply
        self.usage.failures += 1
        return LlmResult(None, failure, attempts, reply)

    def _read(self, body: str, parse: Callable[[str], T], attempts: int) -> LlmResult[T]:
        try:
            completion = ChatCompletion.model_validate_json(body)
        except ValidationError as error:
            raise BadAnswerError("not_json", "the response is not a chat completion") from error
        self.usage.count(completion)
        value, text, tokens = read_completion(completion, parse)
        self.usage.answers += 1
        return LlmResult(value, None, attempts, text, tokens)
