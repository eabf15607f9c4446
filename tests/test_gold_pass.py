"""Both labellers side by side on gold."""

from __future__ import annotations

from typing import Any

from jobs.guarantee import Target
from jobs.labelling.gold_pass import compare, once


def view(name: str, content: str, split: str = "calibration") -> dict[str, Any]:
    return {
        "conversation_id": name,
        "content_hash": content,
        "split": split,
        "probabilities": [0.9],
        "decided": [True],
        "turns": [],
    }


def test_copies_prove_no_more_than_one() -> None:
    views = [view(f"{i}-{copy}", f"c{i}") for i in range(30) for copy in range(4)]
    labels = {row["conversation_id"]: {"a"} for row in views}
    found = compare(labels, views, {}, ["a"], Target(0.9, 0.9, 0.95), band=(0.2, 0.8))
    (promise,) = found.promised
    assert (promise.gold, promise.promised) == (30, "none"), "a hundred and twenty would prove it, thirty do not"


def test_of_copies_in_both_splits_calibrations_counts() -> None:
    views = [view("a", "x", "train"), view("b", "x"), view("c", "y", "train")]
    assert [row["conversation_id"] for row in once(views)] == ["b", "c"]
