"""The unit of work: one conversation, as every labeller sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from jobs.errors import InputError
from jobs.json_lines import json_lines

CUSTOMER = "customer"
AGENT = "agent"
BUSINESS_ZONE = ZoneInfo("Asia/Shanghai")
"""Where the days of the business begin and end; times without an offset are of it: the home field is China."""
_TURN = '{"speaker": "customer", "text": "…"}'


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance. `speaker` is `customer` (whose wishes are tagged) or anything else (the agent's side)."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation; `labels` and `turn_labels` are gold and None where nobody labelled it.

    `turn_labels` runs parallel to `turns`.
    """

    conversation_id: str
    turns: tuple[Turn, ...]
    labels: tuple[str, ...] | None = None
    turn_labels: tuple[tuple[str, ...], ...] | None = None
    lang: str | None = None
    split: str | None = None

    @property
    def customer_turns(self) -> tuple[tuple[int, str], ...]:
        """(turn number from 0, text) of what the customer said."""
        return tuple((i, t.text) for i, t in enumerate(self.turns) if t.speaker == CUSTOMER)

    @property
    def customer_text(self) -> str:
        """What the customer said, one turn a line."""
        return "\n".join(text for _, text in self.customer_turns)

    @property
    def content_hash(self) -> str:
        """SHA-256 over speakers and texts: equal conversations are labelled once."""
        body = json.dumps([[t.speaker, t.text] for t in self.turns], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def copy_key(self) -> str:
        """The same for conversations that differ in nothing but case and white space.

        Whoever has learned one of them by heart knows the others.
        """
        return json.dumps([[t.speaker, "".join(t.text.casefold().split())] for t in self.turns])


class Spoken(Protocol):
    """Whatever holds a customer's words: a conversation, or a window of one."""

    @property
    def customer_turns(self) -> tuple[tuple[int, str], ...]:
        """(turn number from 0, text) of what the customer said."""
        ...


def name_of(value: Any) -> str | None:
    """An id or a label as text; None where it is none, is blank, or holds half of an emoji, which no file can."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    name = str(value)
    return name if name.strip() and name == name.encode("utf-8", "replace").decode() else None


def labels_of(value: Any, where: str, field: str = "labels") -> tuple[str, ...]:
    """Each label once, whole numbers as text.

    Raises:
        InputError: naming `where` and `field`: it is no list of labels.
    """
    labels = [name_of(label) for label in value] if isinstance(value, list) else [None]
    if None in labels:
        raise InputError(f"{where}: {field} must be a list of strings that are not empty; [] where no tag applies")
    return tuple(dict.fromkeys(label for label in labels if label is not None))


def parse_conversation(record: Any, where: str) -> Conversation:
    """Turn one decoded JSON object into a Conversation.

    Raises:
        InputError: naming `where` and what is wrong with the record.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected one JSON object a line, found {type(record).__name__}")
    identifier = name_of(record.get("conversation_id"))
    if identifier is None:
        raise InputError(f"{where}: conversation_id must be a string or a whole number, and not empty")
    raw_turns = record.get("turns")
    if not isinstance(raw_turns, list) or not raw_turns:
        raise InputError(f"{where}: turns must be a list of {_TURN}, and not empty")
    turns: list[Turn] = []
    for number, raw in enumerate(raw_turns):
        if not isinstance(raw, dict) or not isinstance(raw.get("text"), str):
            raise InputError(f"{where}: turn {number} must be {_TURN}")
        turns.append(Turn(str(raw.get("speaker") or AGENT), raw["text"]))
    labels = record.get("labels")
    if labels is not None:
        labels = labels_of(labels, where)
    turn_labels = record.get("turn_labels")
    if turn_labels is not None:
        if not isinstance(turn_labels, list) or len(turn_labels) != len(turns):
            raise InputError(f"{where}: turn_labels must hold a list for each of the {len(turns)} turns, as labels are")
        turn_labels = tuple(labels_of(entry, where, "turn_labels: each entry") for entry in turn_labels)
    lang, split = record.get("lang"), record.get("split")
    return Conversation(
        identifier,
        tuple(turns),
        labels,
        turn_labels,
        str(lang) if lang is not None else None,
        str(split) if split is not None else None,
    )


def iter_records(path: Path) -> Iterator[tuple[dict[str, Any], Conversation]]:
    """Read a JSON Lines file (UTF-8, one object a line, blank lines ignored): each object, and the conversation in it.

    Raises:
        InputError: the file is missing or empty, no customer speaks in it, or a line cannot be used, naming the line.
    """
    seen: dict[str, str] = {}
    heard = False
    for where, record in json_lines(path):
        conversation = parse_conversation(record, where)
        first = seen.setdefault(conversation.conversation_id, where)
        if first != where:
            raise InputError(f"{where}: conversation_id repeated, first seen on line {first.rpartition(':')[2]}")
        heard = heard or any(turn.speaker == CUSTOMER for turn in conversation.turns)
        yield record, conversation
    if not seen:
        raise InputError(f"{path}: holds no conversation")
    if not heard:
        raise InputError(
            f"{path}: no turn has the speaker `{CUSTOMER}`, written so: that side is the one that is tagged"
        )


def iter_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of `iter_records`.

    Raises:
        InputError: see `iter_records`.
    """
    return (conversation for _, conversation in iter_records(path))


def read_conversations(path: Path) -> list[Conversation]:
    """All of `iter_conversations` at once."""
    return list(iter_conversations(path))


def write_conversations(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write what `read_conversations` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for conversation in conversations:
            record = {name: value for name, value in asdict(conversation).items() if value is not None}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
