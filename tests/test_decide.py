from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from jobs.labelling.conclude import Rules, _concluder
from jobs.labelling.decide import Answer, StudentView, decide

TAGS = ("maturity", "redemption", "complaint")
TURNS = ("理财到期了", "好的", "想赎回")


def view(probabilities: list[float], unsure: list[bool]) -> StudentView:
    return StudentView(TAGS, probabilities, [p >= 0.5 for p in probabilities], [0, 2, -1], unsure)


def test_the_student_decides_what_it_is_sure_of() -> None:
    decision = decide(view([0.9, 0.1, 0.1], [False] * 3), TURNS, frozenset(TAGS), {})
    assert [(r["tag_id"], r["labeller"]) for r in decision.rows] == [("maturity", "student")]
    assert decision.rows[0]["evidence"] == [{"turn": 0, "quote": "理财到期了"}]
    assert not decision.asked


def test_the_llm_decides_only_tags_it_may() -> None:
    unsure = view([0.6, 0.4, 0.1], [True, True, False])
    answers = {"redemption": Answer("present", 0.8, ((2, "想赎回"),)), "maturity": Answer("absent", 0.9)}
    decision = decide(unsure, TURNS, frozenset({"redemption"}), answers)
    assert [(r["tag_id"], r["labeller"]) for r in decision.rows] == [("maturity", "student"), ("redemption", "llm")]


def test_an_answer_can_take_a_tag_away_and_leave_none() -> None:
    decision = decide(
        view([0.6, 0.1, 0.1], [True, False, False]), TURNS, frozenset(TAGS), {"maturity": Answer("absent", 0.9)}
    )
    assert [(r["tag_id"], r["labeller"]) for r in decision.rows] == [("none", "llm")]
    assert decision.tags == []


def test_a_missing_answer_waits_and_is_not_none() -> None:
    decision = decide(view([0.6, 0.1, 0.1], [True, False, False]), TURNS, frozenset(TAGS), {})
    assert decision.waiting == ["maturity"]
    assert decision.rows == []


def test_cannot_tell_is_an_answer() -> None:
    decision = decide(
        view([0.6, 0.1, 0.1], [True, False, False]), TURNS, frozenset(TAGS), {"maturity": Answer("cannot_tell", 0.5)}
    )
    assert [r["tag_id"] for r in decision.rows] == ["cannot_tell"]


def test_nothing_said_is_none_by_the_student() -> None:
    decision = decide(view([0.2, 0.1, 0.1], [False] * 3), TURNS, frozenset(TAGS), {})
    assert [(r["tag_id"], r["labeller"], r["confidence"]) for r in decision.rows] == [("none", "student", 0.8)]


def test_an_answer_counts_for_the_whole_conversation_but_nothing_waits_for_it() -> None:
    """The student is unsure of the first tag alone, sure of the second and against the third."""
    half, every = view([0.6, 0.9, 0.1], [True, False, False]), frozenset(TAGS)
    seen = {"maturity": Answer("absent", 0.9), "redemption": Answer("absent", 0.9), "complaint": Answer("present", 0.7)}
    decision = decide(half, TURNS, every, seen, whole=every)
    assert [(r["tag_id"], r["labeller"]) for r in decision.rows] == [("complaint", "llm")]
    decision = decide(half, TURNS, every, seen)
    assert [(r["tag_id"], r["labeller"]) for r in decision.rows] == [("redemption", "student")]
    # Without an answer the conversation waits for the first tag; what the student is sure of is said meanwhile.
    decision = decide(half, TURNS, every, {}, whole=every)
    assert (decision.tags, decision.waiting) == (["redemption"], ["maturity"])
    # An LLM that cannot tell takes nothing away from a sure student.
    decision = decide(half, TURNS, every, {tag: Answer("cannot_tell", 0.5) for tag in TAGS}, whole=every)
    assert [(r["tag_id"], r["labeller"]) for r in decision.rows] == [("redemption", "student"), ("cannot_tell", "llm")]
    # Not asked about this conversation: an old answer does not count.
    sure = view([0.1, 0.9, 0.1], [False] * 3)
    assert decide(sure, TURNS, every, seen, whole=every).tags == ["redemption"]


def test_a_talk_that_is_delivered_late_is_read_as_of_its_own_day() -> None:
    """It was held on the evening of 31 December in London, which is New Year's Day in Shanghai."""
    row = {
        "conversation_id": "c1",
        "conversation_ds": "2026-11-20",
        "started_at": datetime(2025, 12, 31, 18, tzinfo=UTC),
        "content_hash": "h",
        "turns": [{"turn": 0, "speaker": "customer", "text": "今年10月1号要付首付"}],
        "attempts": 0,
        "probabilities": [0.9],
        "decided": [True],
        "evidence_turns": [0],
        "unsure": [False],
        "answers": None,
    }
    rules = Rules(("home_purchase",), frozenset(), {}, {"home_purchase": ("horizon",)})
    [concluded] = _concluder(rules)(iter([pa.RecordBatch.from_pylist([row])]))
    [label] = concluded.to_pylist()[0]["rows"]
    assert label["parameters"]["horizon_months"] == 9.0
