"""The stage `induce` beside an analyst who edits what it proposed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import functions as F

from jobs.errors import InputError
from jobs.induce import induce
from jobs.sample import sample
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.proposals import proposal_folder
from jobs.taxonomies.review import Reviewer, approve

NIGHT = "2026-11-20"
SAID = ("我的房贷怎么提前还", "定存快到期了怎么接着买", "基金亏了要不要卖", "信用卡年费收贵了")


@pytest.fixture
def sampled(tables: Tables, settings: Settings) -> Settings:
    """A night of 24 chats that say four different things, and its sample."""
    rows = [
        (f"c{i}", "app", "p", [{"turn": 0, "speaker": "customer", "text": f"{SAID[i % 4]}，第{i}次问"}], 1, f"h{i}", 0)
        for i in range(24)
    ]
    schema = (
        "conversation_id string, channel string, party_key string, "
        "turns array<struct<turn:int,speaker:string,text:string>>, n_turns int, content_hash string, redactions int"
    )
    late, nothing = F.lit(f"{NIGHT}T01:00:00Z").cast("timestamp"), F.lit(None).cast("string")
    frame = tables.spark.createDataFrame(rows, schema)
    tables.write(
        "conversations", frame.withColumns({"started_at": late, "advisor_id": nothing, "lang": nothing}), NIGHT
    )
    sample(tables, settings, NIGHT)
    return settings


def seeded(settings: Settings, seed: int) -> Settings:
    """Settings under which the same sample is induced anew."""
    return settings.model_copy(update={"sample": settings.sample.model_copy(update={"seed": seed})})


def edit(page: Path, remark: str) -> str:
    text = page.read_text("utf-8") + f"# {remark}\n"
    page.write_text(text, "utf-8")
    return text


@pytest.mark.spark
def test_an_edited_proposal_stays_or_is_put_aside_and_is_never_lost(tables: Tables, sampled: Settings) -> None:
    said: list[str] = []

    def run(seed: int) -> str:
        said.clear()
        return induce(tables, seeded(sampled, seed), NIGHT, use_llm=False, say=said.append)

    folder = proposal_folder(sampled, NIGHT)
    page = folder / "taxonomy.yaml"
    assert "tags induced" in run(1)
    edited = edit(page, "three hours of work")
    assert "the proposal was edited and stays" in run(1)
    assert page.read_text("utf-8") == edited

    run(2)
    aside = folder / "taxonomy.edited-1.yaml"
    assert f"induce: the proposal of before was edited and is put aside: {aside}" in said
    assert aside.read_text("utf-8") == edited and "hours" not in page.read_text("utf-8")
    run(3)
    assert not any("put aside" in line for line in said), "nobody edited this one"
    again = edit(page, "another hour")
    run(4)
    assert (folder / "taxonomy.edited-2.yaml").read_text("utf-8") == again
    assert aside.read_text("utf-8") == edited
    assert approve(sampled, Reviewer("Ana"), ds=NIGHT, file=aside).taxonomy.version == 2


@pytest.mark.spark
def test_what_is_kept_of_a_proposal_and_cannot_be_read_says_what_to_do(tables: Tables, sampled: Settings) -> None:
    def run() -> str:
        return induce(tables, sampled, NIGHT, use_llm=False, say=lambda _: None)

    run()
    folder = proposal_folder(sampled, NIGHT)
    kept = folder / "assignments.jsonl"
    whole = kept.read_text("utf-8")
    for bad, why in (("no json", "not JSON"), ("{}", "not as induction wrote it"), (whole, "a turn once")):
        kept.write_text(f"{whole}{bad}\n", "utf-8")
        with pytest.raises(InputError, match=f"{why}.*delete {folder / 'key'} and run induce again"):
            run()
    kept.unlink()
    with pytest.raises(InputError, match="no such file; delete"):
        run()
    (folder / "key").unlink()
    assert "tags induced" in run() and kept.read_text("utf-8") == whole
