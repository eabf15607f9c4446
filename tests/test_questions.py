from __future__ import annotations

import pytest
from pyspark.sql import DataFrame

from jobs.labelling.questions import answers_of, missing_contents, waves, with_keys
from jobs.storage import Tables

pytestmark = pytest.mark.spark
HASHES = {"maturity": "h1", "redemption": "h2"}


def questions(tables: Tables, contents: int = 3) -> DataFrame:
    rows = [(f"{i:064x}", f"{i:064x}", tag) for i in range(contents) for tag in HASHES]
    return tables.spark.createDataFrame(rows, "conversation_hash string, content_hash string, tag_id string")


def pay(tables: Tables, asked: DataFrame, night: str, verdict: str = "absent") -> None:
    extra = ["*", f"'{verdict}' as verdict", "'m' as model", "cast(null as double) as confidence"]
    evidence = "cast(array() as array<struct<turn:int,quote:string>>) as evidence"
    tables.append("llm_answers", asked.selectExpr(*extra, evidence), night)


def test_only_what_was_not_answered_is_asked(tables: Tables) -> None:
    asked = with_keys(questions(tables), HASHES, "prompt", "model")
    assert missing_contents(tables, asked, "2026-11-20").count() == 3
    pay(tables, asked.where("content_hash not like '%2'"), "2026-11-19")
    missing = missing_contents(tables, asked, "2026-11-20").collect()
    assert [(r["content_hash"][-1], r["tags"]) for r in missing] == [("2", ["maturity", "redemption"])]
    pay(tables, asked.where("content_hash like '%2'"), "2026-11-20")
    assert missing_contents(tables, asked, "2026-11-20").count() == 0
    assert answers_of(tables, asked).count() == 6


def test_one_redefined_tag_is_asked_alone_and_a_new_model_everything(tables: Tables) -> None:
    pay(tables, with_keys(questions(tables), HASHES, "prompt", "model"), "2026-11-19")
    redefined = with_keys(questions(tables), HASHES | {"redemption": "h3"}, "prompt", "model")
    assert {tuple(r["tags"]) for r in missing_contents(tables, redefined, "2026-11-20").collect()} == {("redemption",)}
    for prompt, model in (("other", "model"), ("prompt", "other")):
        assert missing_contents(tables, with_keys(questions(tables), HASHES, prompt, model), "2026-11-20").count() == 3


def test_an_answer_paid_twice_counts_once(tables: Tables) -> None:
    asked = with_keys(questions(tables), HASHES, "prompt", "model")
    pay(tables, asked, "2026-11-19")
    pay(tables, asked, "2026-11-20")
    assert answers_of(tables, asked).count() == 6


def test_waves_cover_everything_once(tables: Tables) -> None:
    contents = missing_contents(tables, with_keys(questions(tables, 7), HASHES, "p", "m"), "2026-11-20")
    sizes, seen = [], []
    for wave in waves(contents, lambda: 3):
        rows = wave.collect()
        sizes.append(len(rows))
        seen += [r["content_hash"] for r in rows]
    assert sizes == [3, 3, 1]
    assert len(set(seen)) == 7


def test_each_wave_asks_anew_how_large_it_may_be(tables: Tables) -> None:
    contents = missing_contents(tables, with_keys(questions(tables, 7), HASHES, "p", "m"), "2026-11-20")
    sizes = iter((1, 4, 9))
    assert [wave.count() for wave in waves(contents, lambda: next(sizes))] == [1, 4, 2]


def test_an_unusable_answer_is_asked_again_on_later_nights_three_in_all(tables: Tables) -> None:
    asked = with_keys(questions(tables, 1), HASHES, "prompt", "model")
    for night, (before, after) in {
        "2026-11-18": (1, 0),
        "2026-11-19": (1, 0),
        "2026-11-20": (1, 0),
        "2026-11-21": (0, 0),
    }.items():
        assert missing_contents(tables, asked, night).count() == before
        if before:
            pay(tables, asked, night, "unusable")
        assert missing_contents(tables, asked, night).count() == after
    pay(tables, asked, "2026-11-22")
    assert {r["verdict"] for r in answers_of(tables, asked).collect()} == {"absent"}
