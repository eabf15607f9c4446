"""Hand-made facts of a few nights, for the tests of profile and publish."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobs.ingestion.identities import customer_id
from jobs.storage import Tables
from tests.night_facts import write

FIRST, SECOND, THIRD = "2026-11-18", "2026-11-19", "2026-11-20"


def party(name: str) -> str:
    """Pseudonym of an invented id."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def customer(name: str) -> str:
    """Customer id of the party seen first."""
    return customer_id(party(name))


@dataclass(frozen=True)
class Tag:
    """One label; `parameters` as in the contract, `turns` the evidence."""

    tag_id: str
    confidence: float = 0.9
    turns: tuple[int, ...] = (0,)
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Talk:
    """One conversation with its labels; no tags means `none`."""

    name: str
    who: str
    tags: Sequence[Tag] = ()
    channel: str = "wecom"
    hour: int = 9


def money(amount: float | None = None, **values: Any) -> dict[str, Any]:
    """Parameters of an intent; an amount is in yuan unless `currency` says otherwise."""
    named = {"amount": amount, "currency": "CNY" if amount is not None else None, "said": ["原话"]}
    return {
        "amount": None,
        "currency": None,
        "horizon_months": None,
        "risk_preference": None,
        "expected_return": None,
        "said": [],
        **named,
        **values,
    }


def _label(talk: Talk, tag: Tag, conversation_ds: str) -> dict[str, Any]:
    parameters = tag.parameters
    return {
        "conversation_id": talk.name,
        "conversation_ds": conversation_ds,
        "tag_id": tag.tag_id,
        "confidence": tag.confidence,
        "evidence": [(turn, f"第{turn}句") for turn in tag.turns],
        "labeller": "student",
        "model": "test",
        "taxonomy_version": 1,
        "content_hash": hashlib.sha256(talk.name.encode()).hexdigest(),
        "parameters": None
        if parameters is None
        else tuple(
            parameters[name]
            for name in ("amount", "currency", "horizon_months", "risk_preference", "expected_return", "said")
        ),
    }


def write_labels(tables: Tables, ds: str, talks: Sequence[Talk], conversation_ds: str | None = None) -> None:
    """Labels of a night for talks of that night, or of an earlier one."""
    rows = [
        _label(talk, tag, conversation_ds or ds) for talk in talks for tag in (talk.tags or (Tag("none", turns=()),))
    ]
    write(tables, "labels", rows, ds)


def write_night(tables: Tables, ds: str, talks: Sequence[Talk], people: Mapping[str, str]) -> None:
    """Conversations, labels and identities of a night; `people` leads from a party's name to its eldest party's."""
    conversations = [
        {
            "conversation_id": talk.name,
            "channel": talk.channel,
            "party_key": party(talk.who),
            "advisor_id": f"A-{talk.name}",
            "started_at": datetime.fromisoformat(f"{ds}T{talk.hour:02}:00:00").replace(tzinfo=UTC),
            "turns": [(0, "customer", "第0句")],
            "n_turns": 1,
            "content_hash": hashlib.sha256(talk.name.encode()).hexdigest(),
            "redactions": 0,
        }
        for talk in talks
    ]
    write(tables, "conversations", conversations, ds)
    write_labels(tables, ds, talks)
    identities = [
        {"party_key": party(name), "id_type": "wecom", "customer_id": customer(eldest), "first_seen": ds}
        for name, eldest in people.items()
    ]
    write(tables, "identities", identities, ds)


def write_scores(tables: Tables, ds: str, verdicts: Mapping[str, str]) -> None:
    """Scores that judge tags on the test gold, and other ones that must not be read."""
    rows = [
        {
            "labeller": labeller,
            "split": split,
            "tag_id": tag,
            "support": 1,
            "precision": 1.0,
            "recall": 1.0,
            "f1": 1.0,
            "verdict": verdict if (labeller, split) == ("cascade", "test") else "below",
        }
        for tag, verdict in verdicts.items()
        for labeller in ("cascade", "student")
        for split in ("test", "calibration")
    ]
    write(tables, "scores", rows, ds)


def rows_of(tables: Tables, name: str, ds: str) -> list[dict[str, Any]]:
    """Rows of a table, sorted by all columns."""
    found = [row.asDict(recursive=True) for row in tables.read(name, ds).collect()]
    return sorted(found, key=lambda row: str(list(row.values())))
