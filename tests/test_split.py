"""`split`: TRAIN and TEST from one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputError
from jobs.evaluation.split import SplitCounts, split_file


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "all.jsonl"
    rows = [
        {
            "conversation_id": str(i),
            "turns": [{"speaker": "customer", "text": f"第{i}句"}],
            "labels": ["oos"] if i == 3 else ["a"],
            "split": f"fold{i}",
        }
        for i in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def ids(path: Path) -> list[str]:
    return [json.loads(line)["conversation_id"] for line in path.read_text("utf-8").splitlines()]


def test_by_patterns_of_the_field(labelled: Path, tmp_path: Path) -> None:
    found = split_file(labelled, tmp_path, train=["fold[13579]"], test=["fold0", "fold[24]"], no_tag=["oos"])
    assert found == SplitCounts(5, 3)
    assert ids(tmp_path / "train.jsonl") == list("13579")
    assert ids(tmp_path / "test.jsonl") == list("024")
    third = json.loads((tmp_path / "train.jsonl").read_text("utf-8").splitlines()[1])
    assert third["labels"] == []


def test_a_seeded_draw_is_the_same_twice_and_loses_nothing(labelled: Path, tmp_path: Path) -> None:
    split_file(labelled, tmp_path / "a", share=0.8, seed=7)
    split_file(labelled, tmp_path / "b", share=0.8, seed=7)
    first = ids(tmp_path / "a" / "train.jsonl")
    assert first == ids(tmp_path / "b" / "train.jsonl")
    assert len(first) == 8
    assert sorted(first + ids(tmp_path / "a" / "test.jsonl")) == list("0123456789")
    split_file(labelled, tmp_path / "c", share=0.8, seed=8)
    assert ids(tmp_path / "c" / "train.jsonl") != first


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": ["fold*"], "test": ["fold1"]}, "both"),
        ({"train": ["fold1"], "test": ["nothing"]}, "left for test"),
        ({}, "either"),
        ({"train": ["fold1"], "test": ["fold2"], "share": 0.5}, "either"),
        ({"share": 1.5}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_split_is_said(labelled: Path, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        split_file(labelled, tmp_path, **options)


def test_a_limit_draws_from_test_alone(labelled: Path, tmp_path: Path) -> None:
    found = split_file(labelled, tmp_path, train=["fold[13579]"], test=["fold[02468]"], limit=3, seed=1)
    assert found == SplitCounts(5, 3)
    drawn = ids(tmp_path / "test.jsonl")
    assert set(drawn) < set("02468") and drawn == sorted(drawn)
    split_file(labelled, tmp_path, train=["fold[13579]"], test=["fold[02468]"], limit=3, seed=1)
    assert ids(tmp_path / "test.jsonl") == drawn
