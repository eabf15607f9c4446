"""`split`: TRAIN and TEST from one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.conversation import read_conversations
from jobs.errors import InputError
from jobs.evaluation.draw import draw_together
from jobs.evaluation.split import SplitCounts, split_file
from jobs.privacy.redact import redact_conversation


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


def test_folds_hold_every_conversation_once_and_equal_ones_together(labelled: Path, tmp_path: Path) -> None:
    twice = labelled.read_text("utf-8") + labelled.read_text("utf-8").replace('_id": "', '_id": "copy of ')
    labelled.write_text(twice, "utf-8")
    held: list[str] = []
    for fold in ("1/5", "2/5", "3/5", "4/5", "5/5"):
        found = split_file(labelled, tmp_path / "out", fold=fold, seed=3)
        assert found == SplitCounts(16, 4)
        tested = ids(tmp_path / "out" / "test.jsonl")
        assert sorted(tested + ids(tmp_path / "out" / "train.jsonl")) == sorted(ids(labelled))
        assert {i for i in tested if i.isdigit()} == {i.removeprefix("copy of ") for i in tested}
        held += tested
    assert sorted(held) == sorted(ids(labelled))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": ["fold*"], "test": ["fold1"]}, "both"),
        ({"train": ["fold1"], "test": ["nothing"]}, "left for test"),
        ({}, "either"),
        ({"train": ["fold1"], "test": ["fold2"], "share": 0.5}, "either"),
        ({"share": 1.5}, "between 0 and 1"),
        ({"share": 0.5, "fold": "1/2"}, "either"),
        ({"fold": "6/5"}, "like 2/5"),
        ({"fold": "0/5"}, "like 2/5"),
        ({"fold": "half"}, "like 2/5"),
        ({"fold": "1/11"}, "10 different conversations make no 11 folds"),
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


def test_without_equal_texts_a_share_is_the_start_of_a_permutation(labelled: Path, tmp_path: Path) -> None:
    """Figures in docs/measurements.md rest on these very draws."""
    split_file(labelled, tmp_path, share=0.7, seed=3)
    assert ids(tmp_path / "train.jsonl") == [str(i) for i in sorted(np.random.default_rng(3).permutation(10)[:7])]


def test_equal_texts_stay_on_one_side_and_the_share_is_kept(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(60)] + [f"text {i % 12}" for i in range(40)]
    source = tmp_path / "all.jsonl"
    rows = [{"conversation_id": str(i), "turns": [{"speaker": "customer", "text": t}]} for i, t in enumerate(texts)]
    source.write_text("".join(json.dumps(row | {"labels": ["a"]}) + "\n" for row in rows), "utf-8")
    written = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert split_file(source, tmp_path / folder, share=0.8, seed=seed) == SplitCounts(80, 20)
        train, test = (read_conversations(tmp_path / folder / name) for name in ("train.jsonl", "test.jsonl"))
        assert not {c.content_hash for c in train} & {c.content_hash for c in test}
        written.append([c.conversation_id for c in test])
    assert written[0] == written[1] != written[2]
    for line in rows:
        line["turns"] = [{"speaker": "customer", "text": "all the same"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(InputError, match="nothing is left for train; too few different"):
        split_file(source, tmp_path / "d", share=0.8)


def test_copies_in_other_letters_and_spaces_stay_on_one_side(tmp_path: Path) -> None:
    texts = [f"My card {i} is lost" for i in range(20)]
    texts += [f"my  CARD {i} is lost " for i in range(20)]
    source = tmp_path / "all.jsonl"
    rows = [{"conversation_id": str(i), "turns": [{"speaker": "customer", "text": t}]} for i, t in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert split_file(source, tmp_path, share=0.5, seed=1) == SplitCounts(20, 20)
    train, test = ({int(i) % 20 for i in ids(tmp_path / f"{name}.jsonl")} for name in ("train", "test"))
    assert len(train) == len(test) == 10 and not train & test


def test_copies_are_drawn_no_oftener_than_others() -> None:
    contents = [str(i) for i in range(20)] + [str(i % 4) for i in range(8)]
    drawn = [draw_together(contents, 14, seed) for seed in range(400)]
    assert np.mean([0 in places for places in drawn]) == pytest.approx(0.5, abs=0.1)


def test_what_nobody_has_labelled_stays_so_and_odd_characters_are_kept(tmp_path: Path) -> None:
    said = ["hello\u2028world", "half of \ud83d", "bye", "hello"]
    rows: list[dict[str, Any]] = [
        {"conversation_id": str(i), "turns": [{"speaker": "customer", "text": text}], "split": "ab"[i % 2]}
        for i, text in enumerate(said)
    ]
    rows[0]["labels"], rows[1]["labels"], rows[2]["labels"] = ["x", "oos"], ["oos"], None
    source = tmp_path / "all.jsonl"
    lines = [json.dumps(row, ensure_ascii=number == 1) + "\n\n" for number, row in enumerate(rows)]
    source.write_text("".join(lines), "utf-8-sig")
    split_file(source, tmp_path, train=["a"], test=["b"], no_tag=["oos"])
    train, test = (read_conversations(tmp_path / name) for name in ("train.jsonl", "test.jsonl"))
    assert [(c.customer_text, c.labels) for c in train] == [(said[0], ("x",)), (said[2], None)]
    assert [(c.customer_text, c.labels) for c in test] == [(said[1], ()), (said[3], None)]


def test_a_split_that_fails_leaves_what_was_there(labelled: Path, tmp_path: Path) -> None:
    """A new TRAIN beside an old TEST could hold what it is tested on."""
    split_file(labelled, tmp_path / "out", train=["fold[13579]"], test=["fold[02468]"])
    before = [(tmp_path / "out" / name).read_bytes() for name in ("train.jsonl", "test.jsonl")]
    with pytest.raises(InputError, match="left for test"):
        split_file(labelled, tmp_path / "out", train=["fold[0123456789]"], test=["nothing"])
    assert before == [(tmp_path / "out" / name).read_bytes() for name in ("train.jsonl", "test.jsonl")]


def test_the_input_is_never_overwritten(labelled: Path, tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        source = tmp_path / name
        source.write_bytes(labelled.read_bytes())
        with pytest.raises(InputError, match="would overwrite --input"):
            split_file(source, tmp_path, share=0.5)
        assert source.read_bytes() == labelled.read_bytes()
        source.unlink()


def test_a_folder_that_cannot_be_made_is_said(labelled: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        split_file(labelled, labelled, share=0.5)


def test_what_is_the_same_once_redacted_stays_on_one_side(tmp_path: Path) -> None:
    """Labellers see the redacted text alone."""
    said = [f"call me at 1380000{i:04d} about the loan" if i % 2 else f"question number {i}" for i in range(40)]
    rows = [
        {"conversation_id": str(i), "turns": [{"speaker": "customer", "text": text}], "labels": ["a"]}
        for i, text in enumerate(said)
    ]
    source = tmp_path / "all.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    split_file(source, tmp_path / "out", share=0.6)
    train, test = (
        {redact_conversation(c).content_hash for c in read_conversations(tmp_path / "out" / f"{name}.jsonl")}
        for name in ("train", "test")
    )
    assert not train & test


def test_a_number_is_taken_off_as_a_label_that_means_no_tag(tmp_path: Path) -> None:
    source = tmp_path / "all.jsonl"
    turns = [{"speaker": "customer", "text": "hello"}]
    rows = [{"conversation_id": f"{i}", "turns": turns, "labels": [i], "split": "ab"[i]} for i in range(2)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    split_file(source, tmp_path, train=["a"], test=["b"], no_tag=["0"])
    assert [c.labels for c in read_conversations(tmp_path / "train.jsonl")] == [()]
