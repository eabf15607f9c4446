"""One raw record becomes a conversation row, or a reason why it cannot."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from jobs.conversation import AGENT, BUSINESS_ZONE, CUSTOMER, Conversation, Turn
from jobs.ingestion.identifiers import checked_identifier
from jobs.privacy.clean import clean
from jobs.privacy.pseudonym import CONVERSATION_ID, pseudonym
from jobs.privacy.redact import is_personal, redact

_CHANNEL = re.compile(r"[a-z][a-z0-9_]{1,20}", re.ASCII)
# What software writes for a time it does not know: 0001-01-01 (.NET), 1970-01-01 (Unix).
_NO_TIME_UP_TO = datetime(1970, 1, 1, tzinfo=UTC)


class RecordError(Exception):
    """A record goes to quarantine; `detail` holds no chat text."""

    def __init__(self, reason: str, detail: str = "", conversation_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.conversation_id = reason, detail, conversation_id


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """What a record may weigh, and the secret that keys the pseudonyms."""

    max_turn_chars: int
    max_conversation_chars: int
    secret: bytes


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError("encoding", f"not UTF-8 at byte {error.start} of the line") from error
    if "\x00" in text:
        raise RecordError("encoding", "NUL bytes: UTF-16 or UTF-32?")
    try:
        record = json.loads(text)
    # An integer of thousands of digits is a plain ValueError.
    except (ValueError, RecursionError) as error:
        raise RecordError("not_json", type(error).__name__) from error
    if not isinstance(record, dict):
        raise RecordError("not_an_object", type(record).__name__)
    return record


def _names(record: dict[str, Any]) -> list[str]:
    return [record[key] for key in ("customer_name", "advisor_name") if isinstance(record.get(key), str)]


def _identifier(record: dict[str, Any], secret: bytes) -> str:
    """The record's id, or its pseudonym where it holds or looks like personal data: a mask would make many ids one."""
    value = checked_identifier(record.get("conversation_id"))
    if value is None:
        raise RecordError("missing_id", "conversation_id")
    identifier = clean(value).strip()[:200]
    personal = is_personal(identifier, _names(record))
    return pseudonym(secret, CONVERSATION_ID, identifier) if personal else identifier


def _turns(record: dict[str, Any], limits: RecordLimits, identifier: str) -> list[Turn]:
    raw_turns = record.get("turns")
    if not isinstance(raw_turns, list) or not raw_turns:
        raise RecordError("no_turns", "turns", identifier)
    turns: list[Turn] = []
    for number, raw in enumerate(raw_turns):
        if not isinstance(raw, dict) or not isinstance(raw.get("text"), str):
            raise RecordError("bad_turn", f"turn {number} has no text", identifier)
        if len(raw["text"]) > limits.max_turn_chars:
            raise RecordError("too_long", f"turn {number} has {len(raw['text'])} characters", identifier)
        speaker = CUSTOMER if raw.get("speaker") == CUSTOMER else AGENT
        turns.append(Turn(speaker, clean(raw["text"]).strip()))
    if (total := sum(len(turn.text) for turn in turns)) > limits.max_conversation_chars:
        raise RecordError("too_long", f"{total} characters in all", identifier)
    if not any(turn.speaker == CUSTOMER for turn in turns):
        raise RecordError("no_customer_turn", "only the agent's side speaks", identifier)
    if not any(turn.text for turn in turns if turn.speaker == CUSTOMER):
        raise RecordError("empty_text", "the customer says nothing", identifier)
    return turns


def _started_at(record: dict[str, Any], ds: str, identifier: str) -> datetime:
    value = record.get("started_at")
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise RecordError("bad_date", "started_at is not an ISO 8601 time", identifier)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=BUSINESS_ZONE)
    if moment <= _NO_TIME_UP_TO:
        raise RecordError("bad_date", "started_at is before there were chats", identifier)
    # Compared before it is converted: the last hours of year 9999 are in no other zone.
    if moment >= datetime.combine(date.fromisoformat(ds) + timedelta(days=1), time(), BUSINESS_ZONE):
        raise RecordError("future_date", f"started_at is after the night {ds}", identifier)
    return moment.astimezone(UTC)


def parse_record(raw: bytes, ds: str, limits: RecordLimits) -> dict[str, Any]:
    """Read one raw record of night `ds`.

    Returns:
        A row of `conversations` without `ds`; all text cleaned and redacted.

    Raises:
        RecordError: with a reason of the `quarantine` contract.
    """
    record = _decode(raw)
    identifier = _identifier(record, limits.secret)
    turns = _turns(record, limits, identifier)
    started_at = _started_at(record, ds, identifier)
    channel = record.get("channel")
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise RecordError("bad_channel", "channel is not a lower-case name", identifier)
    party = checked_identifier(record.get("channel_user_id"))
    if party is None:
        raise RecordError("missing_party", "channel_user_id", identifier)
    names = _names(record)
    redactions, clean_turns = 0, []
    for turn in turns:
        text, counts = redact(turn.text, names)
        redactions += counts.total()
        clean_turns.append(Turn(turn.speaker, text))
    lang, advisor = record.get("lang"), record.get("advisor_id")
    return {
        "conversation_id": identifier,
        "channel": channel,
        "party_key": pseudonym(limits.secret, channel, party),
        "advisor_id": clean(str(advisor))[:100] if advisor is not None else None,
        "started_at": started_at,
        "lang": clean(str(lang))[:20] if lang is not None else None,
        "turns": [{"turn": i, "speaker": t.speaker, "text": t.text} for i, t in enumerate(clean_turns)],
        "n_turns": len(clean_turns),
        "content_hash": Conversation(identifier, tuple(clean_turns)).content_hash,
        "redactions": redactions,
    }


def raw_hash(raw: bytes) -> str:
    """SHA-256 of the raw record."""
    return hashlib.sha256(raw).hexdigest()
