"""What an analyst may write into a taxonomy file, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputError
from jobs.storage import check_ds
from jobs.taxonomy import load_taxonomy, parse_taxonomy

TAG = {"id": "a", "name": "投诉", "definition": "客户投诉。"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "2a"}, "x.yaml: version: expected a whole number, not '2a'"),
        ({"version": 1.5}, "x.yaml: version: expected a whole number, not 1.5"),
        ({"version": True}, "x.yaml: version: expected a whole number, not True"),
        ({"version": None}, "x.yaml: version: expected a whole number, not None"),
        ({"tags": [TAG | {"parent": ["x"]}]}, "x.yaml: tag a: parent: expected the id of one tag or heading"),
        ({"tags": [TAG | {"parent": "x"}]}, "x.yaml: tag a: unknown parent x"),
        ({"tags": [TAG | {"examples": [{"text": "烦", "turn": "t1"}]}]}, "tag a: examples: turn: expected a whole"),
        ({"tags": [TAG | {"examples": [{"text": "烦", "turn": [1]}]}]}, "tag a: examples: turn: expected a whole"),
        ({"tags": [TAG | {"examples": 5}]}, "tag a: examples: expected a list"),
        ({"tags": [TAG | {"examples": "烦死了"}]}, "tag a: examples: expected a list"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_taxonomy({"taxonomy": "small", "tags": [TAG]} | change, "x.yaml")


@pytest.mark.parametrize(
    ("wrong", "meant"), [("definiton", "definition"), ("excludes", "exclude"), ("replace", "replaces")]
)
def test_a_misspelt_field_is_refused_and_others_are_kept(wrong: str, meant: str) -> None:
    tag = {"id": "fee", "name": "fees", "turns": 3, "keywords": ["fee"], "replaces": ["old"], "suggested": "x"}
    assert parse_taxonomy({"tags": [tag]}, "t").tags[0].extra["turns"] == 3
    with pytest.raises(InputError, match=f"t: tag fee: no field `{wrong}`; is `{meant}` meant"):
        parse_taxonomy({"tags": [{"id": "fee", "name": "fees", wrong: "x"}]}, "t")


def test_numbers_are_read_as_a_person_writes_them() -> None:
    tags = [TAG | {"id": 5}, TAG | {"id": "b", "parent": 5, "examples": ["烦", {"text": "急", "turn": "3"}]}]
    found = parse_taxonomy({"version": 2.0, "tags": tags}, "x.yaml")
    assert (found.version, found.tags[1].parent, found.tags[1].examples[1].turn) == (2, "5", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("taxonomy: x\ntags:\n- {id: a, name: 投诉}\n".encode("gbk"), "not UTF-8: save it as UTF-8"),
        (b"tags: [", "not YAML"),
        (b"tags:\n- {id: a, name: b, since: 2026-13-01}\n", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"mine.yaml: {message}"):
        load_taxonomy(path)


@pytest.mark.parametrize("ds", ["2026-13-01", "2026-02-30", "20261120", "2026-W47-5", "2026-11-20\n", "../x", "", 5])
def test_a_night_is_a_day_of_the_calendar(ds: Any) -> None:
    with pytest.raises(InputError, match="expected a date like 2026-11-20"):
        check_ds(ds)
    assert check_ds("2026-11-20") == "2026-11-20"
