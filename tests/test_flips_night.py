"""`flips --ds`: a night's conversations labelled once more."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from jobs.errors import InputError, ServerError
from jobs.evaluation.commands import flips
from jobs.evaluation.relabel import relabelled_flips
from jobs.evaluation.table import flips_table
from jobs.settings import Settings
from jobs.storage import Tables
from tests.fake_llm import FakeLlm, Reply, reply_json
from tests.small_night import SECOND, at, oracle

pytestmark = pytest.mark.spark


def fickle(body: dict[str, Any]) -> Reply:
    """Another mind about two of the five: one loses its tag, one gets a second."""
    said = body["messages"][-1]["content"]
    maturity = {"tag": "maturity", "turns": [0], "quote": "满期"}
    if "第1次" in said:
        return reply_json({"tags": [], "cannot_tell": False})
    if "第2次" in said:
        return reply_json(
            {"tags": [maturity, {"tag": "redemption", "turns": [0], "quote": "这个"}], "cannot_tell": False}
        )
    return oracle(body)


def test_a_night_is_labelled_again_and_nothing_is_saved(tables: Tables, labelled: Settings) -> None:
    stored = {
        name: sorted(map(str, tables.read_all(name).collect())) for name in ("llm_answers", "labels", "llm_usage")
    }
    with FakeLlm(fickle) as fake:
        found: dict[str, Any] = relabelled_flips(tables, at(labelled, fake.base_url), SECOND, 200, lambda text: None)
        assert len(fake.requests) == found["requests"] == 5, "the empty cache asks about all, and not about gold"
    assert (found["conversations"], found["changed"], found["labels"], found["flipped"]) == (5, 2, 6, 2)
    assert found["tags"] == {"redemption": (1, 1), "maturity": (1, 5)}
    assert found["tag_intervals"]["maturity"]["low"] < 0.2 < found["tag_intervals"]["maturity"]["high"]
    assert stored == {name: sorted(map(str, tables.read_all(name).collect())) for name in stored}
    assert not list((labelled.var_dir / "flips").iterdir())
    out = io.StringIO()
    Console(file=out, width=160).print(flips_table(found, 0.95))
    assert "33.3%" in out.getvalue() and "5 requests" in out.getvalue()
    with FakeLlm(oracle) as fake:
        few = relabelled_flips(tables, at(labelled, fake.base_url), SECOND, 3, lambda text: None)
        assert (few["conversations"], few["flipped"], len(fake.requests)) == (3, 0, 3)
    with pytest.raises(ServerError, match=r"3 of 3 prompts failed: \w.*serve status"):
        relabelled_flips(tables, at(labelled, fake.base_url), SECOND, 3, lambda text: None)


def test_files_and_a_night_do_not_go_together() -> None:
    with pytest.raises(InputError, match="either --before and --after, or --ds"):
        flips()
