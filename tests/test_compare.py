"""Two labellings of the same conversations, compared pair by pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import InputError
from jobs.evaluation.compare import compare, paired_difference
from jobs.evaluation.table import comparison_table
from jobs.metrics import micro_intervals

X, NONE = frozenset({"x"}), frozenset[str]()


def named(rows: Sequence[frozenset[str]]) -> dict[str, frozenset[str]]:
    return {str(i): row for i, row in enumerate(rows)}


def predictions(path: Path, rows: Mapping[str, frozenset[str]]) -> Path:
    path.write_text(
        "".join(json.dumps({"conversation_id": name, "labels": sorted(tags)}) + "\n" for name, tags in rows.items()),
        "utf-8",
    )
    return path


def test_figures_are_those_of_each_and_pairs_are_counted() -> None:
    gold = named([X, X, X, X])
    first, second = named([X, NONE, NONE, X]), named([X, X, X, NONE])
    found = paired_difference(gold, first, second)
    assert [found.first, found.second] == pytest.approx([2 / 3, 6 / 7])
    assert found.difference == pytest.approx(6 / 7 - 2 / 3)
    assert (found.first_alone, found.second_alone, found.better, found.worse) == (1, 2, 2, 1)
    assert found.p_value == pytest.approx(1.0)


def test_the_same_labelling_twice_differs_by_nothing() -> None:
    gold, said = named([X, NONE, X]), named([X, X, NONE])
    found = paired_difference(gold, said, said)
    assert (found.difference, found.interval.low, found.interval.high, found.p_value) == (0, 0, 0, 1)


def test_pairing_finds_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(400) < 0.3
    gold = named([X] * 400)
    first = named([NONE if bad else X for bad in hard])
    mended = np.flatnonzero(hard)[:8].tolist()
    second = {name: X if int(name) in mended else tags for name, tags in first.items()}
    found = paired_difference(gold, first, second)
    assert found.interval.low > 0
    columns = [np.array([[bool(said[name])] for name in gold]) for said in (first, second)]
    before, after = (micro_intervals(np.ones((400, 1), np.bool_), column).f1 for column in columns)
    assert before.high > after.low  # unpaired, the two intervals overlap


def test_a_coin_is_within_chance_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    outside = 0
    for _ in range(60):
        gold = named([X] * 80)
        first, second = (named([X if right else NONE for right in rng.random(80) < 0.8]) for _ in range(2))
        interval = paired_difference(gold, first, second).interval
        outside += not interval.low <= 0 <= interval.high
    assert outside <= 9


def test_the_files_are_compared_and_the_verdict_is_said(tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    turns = [{"speaker": "customer", "text": "hello"}]
    records = [{"conversation_id": str(i), "turns": turns, "labels": ["x"]} for i in range(30)]
    test.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    before = predictions(tmp_path / "a", named([NONE] * 20 + [X] * 10))
    after = predictions(tmp_path / "b", named([X] * 30))
    result = compare(test, before, after, 0.95)
    assert result["difference"] == pytest.approx(0.5)
    assert "beyond chance" in str(comparison_table(result, 0.95).caption)
    assert "within chance" in str(comparison_table(compare(test, after, after, 0.95), 0.95).caption)


@pytest.mark.parametrize(
    ("conversations", "mended", "verdict"), [(1, 1, "only 1"), (20, 5, "only 5"), (20, 6, "leaves")]
)
def test_a_handful_of_conversations_is_within_chance(conversations: int, mended: int, verdict: str) -> None:
    """The bootstrap of one conversation is certain; a coin falls five times on one side in one of sixteen."""
    gold = named([X] * conversations)
    found = paired_difference(gold, named([NONE] * mended + [X] * (conversations - mended)), gold)
    assert found.interval.low > 0 and (found.p_value < 0.05) == (verdict == "leaves")
    assert verdict in str(comparison_table(asdict(found), 0.95).caption)


def test_other_conversations_and_unlabelled_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 are in one of them only"):
        paired_difference(named([X, X]), named([X, X]), named([X]))
    with pytest.raises(InputError, match="same conversations"):
        paired_difference({}, {}, {})
    test = tmp_path / "test.jsonl"
    test.write_text('{"conversation_id": "0", "turns": [{"speaker": "customer", "text": "hi"}]}\n', "utf-8")
    said = predictions(tmp_path / "a", named([X]))
    with pytest.raises(InputError, match="no labels"):
        compare(test, said, said, 0.95)
