"""Lessons: conversations that an LLM labelled in part, beside the gold that people wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.conversation import Conversation
from jobs.student.features import conversation_row
from jobs.student.kernel import EXACT_ROWS
from jobs.student.views import LessonRows


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation and what the LLM says of some tags: present or absent. Nothing is known of the others."""

    conversation: Conversation
    verdicts: Mapping[str, bool]


def lesson_rows(lessons: Sequence[Lesson], names: Sequence[str], gold_rows: int) -> LessonRows | None:
    """Lessons that say something of a tag in `names`, as rows of the view of whole conversations.

    The first ones, as many as exact learning has room for beside `gold_rows`; None where that is none.
    """
    place = {name: i for i, name in enumerate(names)}
    room = max(0, EXACT_ROWS - gold_rows)
    used = [lesson for lesson in lessons if place.keys() & lesson.verdicts.keys()][:room]
    if not used:
        return None
    labels, known = (np.zeros((len(used), len(names)), dtype=np.bool_) for _ in range(2))
    for row, lesson in enumerate(used):
        for name, present in lesson.verdicts.items():
            if name in place:
                known[row, place[name]], labels[row, place[name]] = True, present
    rows = tuple(conversation_row(lesson.conversation, i) for i, lesson in enumerate(used))
    return LessonRows(rows, labels, known)
