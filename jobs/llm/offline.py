"""Requests and answers as files, for clusters without a server (OpenAI's batch format, which `vllm run-batch` reads).

A request's `custom_id` is the hash of what it asks, so it does not matter in which file, in which order, or how often
it is answered. Below the folder: `requests/` (what the labellers want), `runs/` (what one run was given), `answers/`
(what it gave back, or what somebody brought from another machine), and an index of both, which can be built anew.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
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
_WAITING = Failure(FailureKind.DEFERRED, "waits in a file for `vllm run-batch`")
_TABLES = """
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER);
CREATE TABLE IF NOT EXISTS requests (custom_id TEXT PRIMARY KEY, line TEXT);
CREATE TABLE IF NOT EXISTS answers (custom_id TEXT PRIMARY KEY, status INTEGER, body TEXT);
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


def read_answer(line: str, model: str) -> tuple[str, int, str]:
    """(custom_id, HTTP status, body as JSON) of a line of an answer file.

    Raises:
        BadLineError: it is no such line, an answer by another model, or a failure that another run may mend.
    """
    try:
        row = json.loads(line)
        custom_id, response = str(row["custom_id"]), row["response"] or {}
        status, body = int(response.get("status_code", 0)), response.get("body")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadLineError("not a line of a batch answer") from error
    if status in ABOUT_ONE_REQUEST:
        return custom_id, status, "null"
    if status != HTTPStatus.OK or not isinstance(body, dict):
        raise BadLineError(f"no answer ({in_words(status)}); asked again by the next run")
    if body.get("model") != model:
        raise BadLineError("an answer by another model")
    return custom_id, status, json.dumps(body)


@dataclass(frozen=True, slots=True)
class Collected:
    """What lies in a folder: requests, those answered, and lines of answer files that could not be used, by reason."""

    requests: int
    answered: int
    rejected: dict[str, int]

    @property
    def open(self) -> int:
        """Requests without an answer."""
        return self.requests - self.answered


class OfflineFolder:
    """The files of one night."""

    def __init__(self, folder: Path, model: str) -> None:
        """`model` is the served model's name, which every answer must bear."""
        self.folder, self.model = folder, model
        self.index = folder / "index.sqlite"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.index)) as connection:
            connection.executescript(_TABLES)
            with connection:
                yield connection

    def _changed(self, connection: sqlite3.Connection, kind: str) -> Iterator[Path]:
        known = {name: (size, changed) for name, size, changed in connection.execute("SELECT * FROM files")}
        for path in sorted((self.folder / kind).glob("*.jsonl")):
            stat, name = path.stat(), f"{kind}/{path.name}"
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
        return Collected(int(asked), int(answered), rejected)

    def _keep(self, connection: sqlite3.Connection, line: str) -> str | None:
        """Why a line was not kept, None where it was or is blank."""
        if not line.strip():
            return None
        try:
            answer = read_answer(line, self.model)
        except BadLineError as error:
            return str(error)
        if connection.execute("SELECT 1 FROM requests WHERE custom_id = ?", answer[:1]).fetchone() is None:
            return "an answer to something that was not asked"
        added = connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", answer).rowcount
        return None if added else "a second answer to the same request"

    def open_requests(self, most: int) -> Iterator[list[str]]:
        """Lines of requests without an answer, in files' worth of at most `most`, in a fixed order."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT line FROM requests WHERE custom_id NOT IN (SELECT custom_id FROM answers) ORDER BY custom_id"
            ).fetchall()
        for start in range(0, len(rows), most):
            yield [row[0] for row in rows[start : start + most]]

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The index for lookups, by many processes at once."""
        with self._open():
            pass
        with closing(sqlite3.connect(f"{self.index.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection

    def write_requests(self, lines: Sequence[str]) -> None:
        """A new file of requests; it appears whole or not at all."""
        place = self.folder / "requests"
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
    """Stands where `LlmClient` does: an answer that lies in the folder counts, every other request is written there.

    Call `OfflineFolder.collect` before, so that the index knows all files. `usage` counts the answers that were used.
    """

    def __init__(self, profile: ServingProfile, folder: OfflineFolder, retries: int, done: int = 0) -> None:
        """`done` tries of each request lie behind it: a replay skips their answers and goes on with other seeds."""
        self.profile, self.usage = profile, LlmUsage()
        self._folder, self._retries, self._done = folder, retries, done
        self._wanted: dict[str, str] = {}
        self._stack = ExitStack()

    async def __aenter__(self) -> OfflineClient:
        self._index = self._stack.enter_context(self._folder.reading())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is None and self._wanted:
            self._folder.write_requests(list(self._wanted.values()))

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
                if not asked:
                    self._wanted[custom_id] = line
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
