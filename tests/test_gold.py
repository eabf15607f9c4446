from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputError
from jobs.gold import gold, read_annotations
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomy import Tag, Taxonomy
from tests.small_night import chat, put

NIGHT = "2026-11-20"
TAXONOMY = Taxonomy("small", 1, (Tag("maturity", "到期", "产品到期。"),))
GOOD = {"conversation_id": "c1", "ds": NIGHT, "split": "train", "labels": ["maturity"], "evidence": {"maturity": [0]}}


def file(folder: Path, *rows: Any) -> Path:
    path = folder / "gold.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"conversation_id": ["a"]}, "conversation_id"),
        ({"conversation_id": None}, "conversation_id"),
        ({"conversation_id": "c1 "}, "tagged twice"),
        ({"ds": 20261120}, "ds: .*no night"),
        ({"split": "dev"}, "split 'dev'"),
        ({"labels": None}, "labels must be a list"),
        ({"labels": "maturity"}, "labels must be a list"),
        ({"labels": [1]}, "labels must be a list"),
        ({"labels": ["weather"]}, "does not have: weather"),
        ({"evidence": [1]}, "evidence"),
        ({"evidence": {"maturity": 0}}, "evidence"),
        ({"evidence": {"maturity": [-1]}}, "evidence"),
        ({"evidence": {"maturity": [True]}}, "evidence"),
        ({"parameters": {"maturity": 3}}, "parameters"),
    ],
)
def test_bad_gold_is_refused_with_its_line(changes: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    path = file(tmp_path, GOOD, GOOD | {"conversation_id": "c2"} | changes)
    with pytest.raises(InputError, match=wrong) as caught:
        read_annotations(path, TAXONOMY)
    assert str(caught.value).startswith(f"{path}:2: ")


@pytest.mark.spark
def test_evidence_beyond_the_chat_is_refused(tables: Tables, settings: Settings, tmp_path: Path) -> None:
    put(settings, NIGHT, [chat("c1", "理财到期了", NIGHT)])
    path = file(tmp_path, GOOD | {"evidence": {"maturity": [0, 2]}})
    settings = settings.model_copy(update={"source": settings.source.model_copy(update={"gold": str(path)})})
    with pytest.raises(InputError, match="c1: the evidence for maturity names turn 2, but the chat has 2 turns"):
        gold(tables, settings, NIGHT)
