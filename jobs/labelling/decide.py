"""From what the student and the LLM say about one conversation to its rows in `labels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

NONE, CANNOT_TELL = "none", "cannot_tell"
QUOTE_CHARS = 200

Verdict = Literal["present", "absent", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The LLM's verdict on one tag of one conversation; `evidence` holds (turn from 0, verified quote)."""

    verdict: Verdict
    confidence: float
    evidence: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StudentView:
    """The student's view of one conversation, parallel to `tag_ids`."""

    tag_ids: Sequence[str]
    probabilities: Sequence[float]
    decided: Sequence[bool]
    evidence_turns: Sequence[int]
    unsure: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Decision:
    """Rows for `labels` (tag, confidence, labeller, evidence) and the tags still waiting for the LLM."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    asked: bool = False

    @property
    def tags(self) -> list[str]:
        """Ids of the tags given."""
        return [row["tag_id"] for row in self.rows if row["tag_id"] not in (NONE, CANNOT_TELL)]


def _row(tag_id: str, labeller: str, confidence: float, evidence: Sequence[tuple[int, str]]) -> dict[str, Any]:
    return {
        "tag_id": tag_id,
        "labeller": labeller,
        "confidence": min(max(float(confidence), 0.0), 1.0),
        "evidence": [{"turn": int(turn), "quote": quote[:QUOTE_CHARS]} for turn, quote in evidence],
    }


def decide(
    view: StudentView,
    turns: Sequence[str],
    llm_tags: frozenset[str],
    answers: Mapping[str, Answer],
    dead: frozenset[str] = frozenset(),
    *,
    whole: frozenset[str] = frozenset(),
) -> Decision:
    """Who decides each tag, and what.

    The LLM decides a tag where the student is unsure and the tag is one of `llm_tags`; everything else is the
    student's. A tag that waits for an answer gets no row: half a truth is worse than tomorrow's whole one.
    A tag in `dead` was asked on too many nights without a usable answer: the student decides it after all.
    Where the LLM is asked about the conversation at all, it decides the tags in `whole` too, though the student is sure
    of them: its answer holds them anyway. Nothing waits for that, and an LLM that cannot tell does not count.
    `none` is written only when nothing waits and nobody was in doubt.
    """
    decision = Decision(asked=any(u and t in llm_tags for u, t in zip(view.unsure, view.tag_ids, strict=True)))
    doubtful: list[Answer] = []
    for i, tag_id in enumerate(view.tag_ids):
        answer = answers.get(tag_id)
        doubted = view.unsure[i] and tag_id in llm_tags and tag_id not in dead
        free = decision.asked and tag_id in whole and answer is not None and answer.verdict != CANNOT_TELL
        if doubted or free:
            if answer is None:
                decision.waiting.append(tag_id)
            elif answer.verdict == "present":
                decision.rows.append(_row(tag_id, "llm", answer.confidence, answer.evidence))
            elif answer.verdict == "cannot_tell":
                doubtful.append(answer)
        elif view.decided[i]:
            turn = view.evidence_turns[i]
            evidence = [(turn, turns[turn])] if 0 <= turn < len(turns) else []
            decision.rows.append(_row(tag_id, "student", view.probabilities[i], evidence))
    if doubtful:
        decision.rows.append(_row(CANNOT_TELL, "llm", max(a.confidence for a in doubtful), ()))
    if not decision.rows and not decision.waiting:
        labeller = "llm" if decision.asked else "student"
        decision.rows.append(_row(NONE, labeller, 1.0 - max(view.probabilities, default=0.0), ()))
    return decision
