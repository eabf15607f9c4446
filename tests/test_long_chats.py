"""A chat longer than the model's context, through the stage: planned, asked, labelled, replayed."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.ingest import ingest
from jobs.plan import plan
from jobs.settings import Settings
from jobs.storage import Tables
from tests.fake_llm import FakeLlm
from tests.small_night import at, chat, oracle, outcomes, prepare, put, run

pytestmark = pytest.mark.spark

LATER = "2026-11-22"
GOLD = 9
"""Texts of calibration gold that the LLM is asked about first."""


def long_chat() -> dict[str, Any]:
    """About 48,000 characters; the wish comes at the very end."""
    turns = [
        {"speaker": "customer" if i % 2 else "advisor", "text": f"第{i}句" + chr(0x4E00 + i) * 800} for i in range(60)
    ]
    return chat("long", "", LATER) | {"turns": [*turns, {"speaker": "customer", "text": "还有，这个满期呢"}]}


def test_every_window_is_asked_once_and_the_last_ones_tag_is_found(tables: Tables, night: Settings) -> None:
    put(night, LATER, [long_chat(), chat("short", "第九次 这个满期呢", LATER)])
    ingest(tables, night, LATER)
    prepare(tables, night, LATER)
    with FakeLlm(oracle) as fake:
        forecast = plan(tables, at(night, fake.base_url), LATER)
        work = forecast.work
        assert (work.conversations, work.asked, work.questions) == (2, GOLD + 2, 2 * (GOLD + 2))
        windows = work.windows - GOLD - 1
        assert windows >= 4
        result = run(tables, night, LATER, fake.base_url)
        texts = [body["messages"][-1]["content"] for body in fake.requests]
        assert result.llm_requests == len(texts) == len(set(texts)) == forecast.forecast.requests
        rows = [r for r in tables.read("labels", LATER).collect() if r["conversation_id"] == "long"]
        assert [(r["tag_id"], r["labeller"]) for r in rows] == [("maturity", "llm")]
        assert [(e["turn"], e["quote"]) for e in rows[0]["evidence"]] == [(60, "满期")]
        assert outcomes(tables, LATER) == {"long": ("labelled", 1), "short": ("labelled", 1)}
        assert run(tables, night, LATER, fake.base_url).llm_requests == 0
        assert len(fake.requests) == len(texts)
