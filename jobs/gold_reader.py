"""Gold rows as the conversations that labellers train on."""

from __future__ import annotations

from jobs.conversation import Conversation, Turn
from jobs.storage import Tables


def gold_conversations(tables: Tables, ds: str) -> list[Conversation]:
    """Gold of night `ds`, ordered by id: `split` set, `labels` and, from the evidence, `turn_labels`."""
    found = []
    for row in tables.read("gold", ds).orderBy("conversation_id").toLocalIterator():
        turn_labels: list[list[str]] = [[] for _ in row["turns"]]
        for evidence in row["evidence"]:
            for turn in evidence["turns"]:
                turn_labels[turn].append(evidence["tag_id"])
        found.append(
            Conversation(
                conversation_id=row["conversation_id"],
                turns=tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"]),
                labels=tuple(row["labels"]),
                turn_labels=tuple(map(tuple, turn_labels)),
                split=row["split"],
            )
        )
    return found
