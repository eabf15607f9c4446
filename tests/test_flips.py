"""Labels that flip between two labellings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import InputError
from jobs.evaluation.flips import compare_labellings, flips, read_labelling


def labelling(path: Path, labels: Mapping[str, Sequence[str]]) -> Path:
    lines = [json.dumps({"conversation_id": name, "labels": list(tags)}) + "\n" for name, tags in labels.items()]
    path.write_text("".join(lines), "utf-8")
    return path


def test_flips_are_counted_by_label_conversation_and_tag(tmp_path: Path) -> None:
    before = labelling(tmp_path / "a", {"1": ["x", "y"], "2": ["x"], "3": [], "4": ["y"]})
    after = labelling(tmp_path / "b", {"4": ["y"], "3": [], "2": ["y"], "1": ["y", "x"]})
    found = flips(before, after, 0.95)
    assert (found["conversations"], found["changed"]) == (4, 1)
    assert (found["labels"], found["flipped"], found["share"]) == (5, 2, 0.4)
    assert list(found["tags"].items()) == [("x", (1, 2)), ("y", (1, 3))]
    assert found["changed_interval"]["low"] < 0.25 < found["changed_interval"]["high"]
    assert flips(before, before, 0.95)["share"] == 0.0


def test_other_conversations_and_bad_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 are in one of them only"):
        compare_labellings({"1": frozenset()}, {"2": frozenset()}, 0.95)
    path = tmp_path / "c"
    path.write_text('{"conversation_id": "1", "labels": []}\n{"labels": []}\n', "utf-8")
    with pytest.raises(InputError, match=":2: needs"):
        read_labelling(path)
    path.write_text('{"conversation_id": "1", "labels": []}\n{"conversation_id": "1", "labels": []}\n', "utf-8")
    with pytest.raises(InputError, match=":2: `conversation_id` must be"):
        read_labelling(path)


def test_labels_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    long = "a-label-longer-than-any-terminal-" * 4
    before = labelling(tmp_path / "a", {"1": ["[/fees]", "[red]", long], "2": []})
    after = labelling(tmp_path / "b", {"1": ["[red]"], "2": []})
    shown = CliRunner().invoke(app, ["flips", "--before", str(before), "--after", str(after)])
    assert shown.exit_code == 0, shown.exception
    assert "[/fees]" in shown.stdout and "[red]" in shown.stdout and "95% interval" in " ".join(shown.stdout.split())
    assert "".join(c for c in shown.stdout if c.isalpha() or c == "-").count(long[:20]) >= 1 and "…" not in shown.stdout
