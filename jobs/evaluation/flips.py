"""`flips`: how many labels change when the same conversations are labelled twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.conversation import labels_of, name_of
from jobs.errors import InputError
from jobs.json_lines import json_lines
from jobs.metrics import Interval, wilson

Labelling = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Flips:
    """Of `labels` that either labelling gives, `flipped` are given by one alone; `share` is their quotient.

    `conversations` were labelled twice, `changed` of them differently: with Wilson's interval, because conversations
    are independent and the labels of one are not. `tags`: (flipped, labels) of each tag, the least stable first;
    `tag_intervals`: Wilson's interval of their quotient, for a conversation carries a tag once.
    """

    conversations: int
    changed: int
    changed_interval: Interval
    labels: int
    flipped: int
    share: float
    tags: dict[str, tuple[int, int]]
    tag_intervals: dict[str, Interval]


def compare_labellings(before: Labelling, after: Labelling, confidence: float) -> Flips:
    """Compare two labellings of the same conversations.

    Raises:
        InputError: they are not of the same conversations, or of none.
    """
    if not before or before.keys() != after.keys():
        odd = len(before.keys() ^ after.keys())
        raise InputError(f"two labellings of the same conversations are needed: {odd} are in one of them only")
    given: Counter[str] = Counter()
    flipped: Counter[str] = Counter()
    changed = 0
    for name, tags in before.items():
        given.update(tags | after[name])
        flipped.update(tags ^ after[name])
        changed += tags != after[name]
    interval = wilson(changed, len(before), confidence)
    order = sorted(given, key=lambda tag: (-flipped[tag] / given[tag], -given[tag], tag))
    tags_found = {tag: (flipped[tag], given[tag]) for tag in order}
    share = flipped.total() / given.total() if given else 0.0
    intervals = {tag: wilson(flipped[tag], given[tag], confidence) for tag in order}
    return Flips(len(before), changed, interval, given.total(), flipped.total(), share, tags_found, intervals)


def read_labelling(path: Path) -> dict[str, frozenset[str]]:
    """A `predictions.jsonl` of `evaluate`, or any JSON Lines with `conversation_id` and `labels`.

    Raises:
        InputError: the file cannot be used, naming the line.
    """
    found: dict[str, frozenset[str]] = {}
    for where, record in json_lines(path):
        if not isinstance(record, dict) or not {"conversation_id", "labels"} <= set(record):
            raise InputError(f"{where}: needs `conversation_id` and `labels`")
        name = name_of(record["conversation_id"])
        if name is None or name in found:
            raise InputError(f"{where}: `conversation_id` must be a text met once")
        found[name] = frozenset(labels_of(record["labels"], where))
    return found


def flips(before: Path, after: Path, confidence: float) -> dict[str, Any]:
    """Compare two files of labels; what is returned fits into JSON."""
    return asdict(compare_labellings(read_labelling(before), read_labelling(after), confidence))
