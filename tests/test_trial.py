"""Giving an LLM up before all of calibration gold is asked: `jobs.cascade.give_up` and the stages that use it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.cascade import FIRST_BLOCK, give_up, llm_trust, trial_blocks
from jobs.plan import plan
from jobs.settings import Settings
from jobs.storage import Tables
from tests.fake_llm import FakeLlm, Reply, reply_json
from tests.small_night import FILLER, SAYS, SECOND, at, run

N, TAGS = 80, 6
RANDOM = np.random.default_rng(5)
GOLD = RANDOM.random((N, TAGS)) < 0.25


def wrong(share: float, seed: int) -> np.ndarray:
    """Gold with this share of cells turned round."""
    return np.asarray(GOLD ^ (np.random.default_rng(seed).random((N, TAGS)) < share))


def first(count: int) -> np.ndarray:
    return np.arange(N) < count


def test_blocks_grow_and_hold_every_conversation_once() -> None:
    assert [len(block) for block in trial_blocks(100)] == [16, 16, 32, 36]
    assert [len(block) for block in trial_blocks(9)] == [9]
    assert [i for block in trial_blocks(70) for i in block] == list(range(70))


def test_a_hopeless_llm_is_given_up_at_the_first_look_and_decides_nothing() -> None:
    student, llm = wrong(0.05, 1), wrong(0.5, 2)
    llm[:, 0] = GOLD[:, 0]  # one tag that it knows does not save it
    student[20:23, 0] = ~GOLD[20:23, 0]
    reason = give_up(GOLD, student, llm, first(FIRST_BLOCK))
    assert reason and reason.endswith("hopeless") and f"given up after 16 of {N}" in reason
    trust = llm_trust([str(i) for i in range(TAGS)], GOLD, student, llm, first(FIRST_BLOCK), given_up=reason)
    assert not any(entry.llm_decides for entry in trust)
    assert all(entry.reason == f"the LLM was {reason}" for entry in trust)


def test_no_llm_that_is_as_good_loses_a_tag_by_not_being_asked() -> None:
    """Four hundred LLMs as good as the student or better, at three looks."""
    student, names = wrong(0.05, 1), [str(i) for i in range(TAGS)]
    for seed in range(100, 300):
        for share in (0.05, 0.01):
            llm = wrong(share, seed)
            reasons = [reason for count in (16, 32, 64) if (reason := give_up(GOLD, student, llm, first(count)))]
            if reasons:
                assert "hopeless" not in reasons[0]
                assert not any(entry.llm_decides for entry in llm_trust(names, GOLD, student, llm, first(N)))


def test_where_the_rest_cannot_change_the_outcome_it_is_not_asked() -> None:
    student = wrong(0.02, 7)
    llm = wrong(0.08, 8)
    whole = llm_trust([str(i) for i in range(TAGS)], GOLD, student, llm, first(N))
    for count in range(16, N):
        reason = give_up(GOLD, student, llm, first(count))
        if reason and "whatever the rest says" in reason:
            # Exactly what asking all of them comes to.
            assert not any(entry.llm_decides for entry in whole)
            return
    pytest.fail("an LLM with four times the errors was never given up")


def test_a_tie_goes_to_the_labeller_that_is_better_over_all_tags() -> None:
    """Tag 0: the LLM is better, 1: the student is, 2 and the rest: neither errs."""
    student, llm = GOLD.copy(), GOLD.copy()
    student[:3, 0], llm[3:5, 1] = ~GOLD[:3, 0], ~GOLD[3:5, 1]
    names = [str(i) for i in range(TAGS)]
    ahead = llm_trust(names, GOLD, student, llm, first(N))
    assert [entry.llm_decides for entry in ahead] == [True, False] + [True] * (TAGS - 2)
    assert ahead[2].reason == "the LLM makes no fewer errors than the student: 0 against 0; over all tags 2 against 3"
    llm[5, 1] = ~GOLD[5, 1]  # now as many errors in all: what is free decides
    level = llm_trust(names, GOLD, student, llm, first(N))
    assert [entry.llm_decides for entry in level] == [True] + [False] * (TAGS - 1)


@pytest.mark.parametrize("count", [0, 8, N])
def test_too_little_or_everything_is_no_reason_to_give_up(count: int) -> None:
    assert give_up(GOLD, wrong(0.01, 1), ~GOLD, first(count)) is None


def contrary(body: dict[str, Any]) -> Reply:
    """Every tag but the right one."""
    said = body["messages"][-1]["content"]
    quote = next(word for word in ("这个", *FILLER) if word in said)
    right = next((tag for word, tag in SAYS.items() if word in said), None)
    tags = [{"tag": tag, "turns": [0], "quote": quote} for tag in ("maturity", "redemption") if tag != right]
    return reply_json({"tags": tags, "cannot_tell": False})


@pytest.mark.spark
def test_a_night_gives_a_bad_llm_up_and_a_replay_asks_no_more(
    tables: Tables, night: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine conversations in blocks of seven: the small night's gold is too small for blocks of sixteen."""
    monkeypatch.setattr("jobs.cascade.FIRST_BLOCK", 7)
    with FakeLlm(contrary) as fake:
        assert plan(tables, at(night, fake.base_url), SECOND).forecast.requests == 9 + 5, "nobody knows it yet"
        result = run(tables, night, SECOND, fake.base_url)
        assert result.llm_requests == len(fake.requests) == 7
        assert result.llm_tags == ()
        trust = tables.read("llm_trust", SECOND).collect()
        assert {(row["compared"], row["llm_decides"]) for row in trust} == {(7, False)}
        assert all("given up after 7 of 9" in row["reason"] for row in trust)
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        assert plan(tables, at(night, fake.base_url), SECOND).forecast.requests == 0
