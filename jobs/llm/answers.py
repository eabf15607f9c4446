"""What an LLM's labelling answer must prove: known tags, and a quote that the customer really said."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from jobs.conversation import Spoken
from jobs.privacy.clean import clean


class BadAnswerError(Exception):
    """An answer that does not count. `reason` is one of the words below; the text holds no word of the chat.

    Reasons: not_json, schema, unknown_tag, quote_not_found, contradiction, truncated. `reply` is what the model said.
    """

    def __init__(self, reason: str, detail: str, reply: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage of a customer turn (number from 0), as the model quoted it; its presence there is verified."""

    turn: int
    quote: str


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """One tag and where the customer says it."""

    tag: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """A verified answer. No tags and not `cannot_tell` is an answer too: none of the tags applies."""

    tags: tuple[TagAnswer, ...]
    cannot_tell: bool


def fold(text: str) -> str:
    """Text for comparing quotes: NFKC (width), case, no white space, no control or format characters."""
    flat = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in flat if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value.encode(errors="ignore").decode())  # half an emoji is dropped, no table could hold it
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    return {key: _cleaned(one) for key, one in value.items()} if isinstance(value, dict) else value


def decode_json(text: str) -> Any:
    """The JSON value of an answer, its texts without what `clean` takes out of chats and without lone surrogates.

    Raises:
        BadAnswerError: not_json.
    """
    try:
        return _cleaned(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise BadAnswerError("not_json", "the answer is not JSON") from error


def _fields(entry: Any, number: int) -> tuple[str, list[int], str]:
    if not isinstance(entry, dict) or set(entry) != {"tag", "turns", "quote"}:
        raise BadAnswerError("schema", f"tag {number} must have tag, turns and quote")
    tag, turns, quote = entry["tag"], entry["turns"], entry["quote"]
    if not isinstance(tag, str) or not isinstance(quote, str) or not isinstance(turns, list) or not turns:
        raise BadAnswerError("schema", f"tag {number}: a field has the wrong type")
    if not all(isinstance(turn, int) and not isinstance(turn, bool) for turn in turns):
        raise BadAnswerError("schema", f"tag {number}: turns must be numbers")
    return tag, turns, quote


def _locate(quote: str, turns: list[int], folded: dict[int, str], longest: int | None) -> Evidence:
    """The customer turn that holds the quote: a cited one, else the only other one that does (numbers slip by one).

    The whole quote must be there; its first `longest` characters are kept.
    """
    kept = quote.strip()[:longest]
    needle = fold(quote)
    if needle and not (len(needle) == 1 and needle not in folded.values()):
        for turn in turns:
            if needle in folded.get(turn, ""):
                return Evidence(turn, kept)
        others = [turn for turn, text in folded.items() if needle in text]
        if len(others) == 1:
            return Evidence(others[0], kept)
    raise BadAnswerError("quote_not_found", "a quote is not in the customer's words")


def parse_answer(text: str, spoken: Spoken, tag_ids: Collection[str], longest: int | None = None) -> LabelAnswer:
    """Verify one answer against the conversation, or the window of it, that was shown.

    Each tag must be known and its quote must stand in a customer turn, compared without regard to width, case and
    white space; of a longer one the first `longest` characters are kept. A tag given twice is merged.

    Raises:
        BadAnswerError: saying why the answer does not count.
    """
    data = decode_json(text)
    if not isinstance(data, dict) or not isinstance(data.get("tags"), list):
        raise BadAnswerError("schema", "expected an object with tags and cannot_tell")
    cannot_tell = data.get("cannot_tell")
    if not isinstance(cannot_tell, bool) or set(data) != {"tags", "cannot_tell"}:
        raise BadAnswerError("schema", "expected an object with tags and cannot_tell")
    if cannot_tell and data["tags"]:
        raise BadAnswerError("contradiction", "cannot_tell together with tags")
    folded = {number: fold(said) for number, said in spoken.customer_turns}
    found: dict[str, list[Evidence]] = {}
    for number, entry in enumerate(data["tags"]):
        tag, turns, quote = _fields(entry, number)
        if tag not in tag_ids:
            raise BadAnswerError("unknown_tag", f"tag {number} is not in the taxonomy")
        evidence = _locate(quote, turns, folded, longest)
        entries = found.setdefault(tag, [])
        if evidence not in entries:
            entries.append(evidence)
    return LabelAnswer(tuple(TagAnswer(tag, tuple(entries)) for tag, entries in found.items()), cannot_tell)
