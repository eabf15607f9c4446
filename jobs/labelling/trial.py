"""The LLM on trial: calibration gold, asked block by block until the LLM has shown what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.cascade import trial_blocks
from jobs.labelling.gold_pass import given_up_on, verdicts_by_content
from jobs.labelling.llm_pass import Asked, LlmPass
from jobs.labelling.questions import all_questions
from jobs.labelling.usage import Spent

Ask = Callable[[DataFrame, DataFrame], Asked]
"""Called with questions and the texts they are about; an `outage` ends the trial."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial came to: answers by content, why the LLM was given up (None: it was not), contents looked at."""

    asked: Asked
    verdicts: dict[str, list[dict[str, Any]]]
    given_up: str | None
    contents: tuple[str, ...]


def try_llm(
    llm: LlmPass,
    calibration: DataFrame,
    views: Sequence[Mapping[str, Any]],
    labels: Mapping[str, set[str]],
    *,
    in_blocks: bool,
    ask: Ask,
) -> Trial:
    """Ask about calibration gold.

    Args:
        llm: finds questions and their answers.
        calibration: rows (content_hash, turns) of calibration gold.
        views: the student's, each without having seen the conversation, at least of calibration gold.
        labels: gold by conversation.
        in_blocks: whether to look in between; else all is asked at once.
        ask: sends what is not settled yet.
    """
    contents = sorted({row["content_hash"] for row in views if row["split"] == "calibration"})
    tag_ids = llm.prompt.tag_ids
    asked, verdicts, told = Asked(0, 0, 0, None, Spent()), {}, ()
    for block in trial_blocks(len(contents)) if in_blocks else [range(len(contents))]:
        told = tuple(contents[: block.stop])
        texts = calibration.where(F.col("content_hash").isin(*told))
        questions = llm.questions(all_questions(texts, tag_ids), texts)
        asked = ask(questions, texts)
        verdicts = verdicts_by_content(llm.answers(questions))
        if asked.outage:
            break
        if reason := given_up_on(labels, views, verdicts, tag_ids):
            return Trial(asked, verdicts, reason, told)
    return Trial(asked, verdicts, None, told)
