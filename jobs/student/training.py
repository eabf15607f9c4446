"""From labelled conversations to fitted views and their left-out scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.conversation import Conversation
from jobs.settings import StudentSettings
from jobs.student.embed import Embedder, Progress
from jobs.student.features import conversation_row, turn_rows
from jobs.student.lessons import Lesson, lesson_rows
from jobs.student.store import CODE_VERSION
from jobs.student.tuned_view import TunedView
from jobs.student.views import Examples, View, evidence_labels, pool
from jobs.taxonomy import Taxonomy

MIN_TURN_CONVERSATIONS = 20

AnyView = View | TunedView
Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
StageProgress = Callable[[str, int, int], None]
"""Called with (what is going on, done, in all)."""


def _stage(progress: StageProgress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    report = progress
    return lambda done, total: report(name, done, total)


def gold_matrix(conversations: Sequence[Conversation], tags: Sequence[str]) -> Bools:
    """(n, t): which conversation carries which tag; labels outside `tags` are left out."""
    place = {tag: i for i, tag in enumerate(tags)}
    out = np.zeros((len(conversations), len(tags)), dtype=np.bool_)
    for row, conversation in enumerate(conversations):
        for label in conversation.labels or ():
            if label in place:
                out[row, place[label]] = True
    return out


def with_none(gold: Bools) -> Bools:
    """One more column: carries no tag at all."""
    return np.hstack([gold, ~gold.any(axis=1, keepdims=True)])


def _contents(conversations: Sequence[Conversation]) -> npt.NDArray[np.int64]:
    """(n,) a number for each conversation, the same for copies: they are left out together."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(c.copy_key, i) for i, c in enumerate(conversations)], dtype=np.int64)


def fit_views(
    labelled: Sequence[Conversation],
    gold: Bools,
    names: Sequence[str],
    examples: Examples,
    *,
    settings: StudentSettings,
    embedder: Embedder,
    progress: StageProgress | None,
    lessons: Sequence[Lesson] = (),
) -> tuple[list[AnyView], Array]:
    """The views, that of whole conversations first, and their left-out scores (v, n, t) of `labelled`.

    Lessons teach the view of whole conversations alone.
    """
    contents = _contents(labelled)
    both: dict[str, Any] = {"embedder": embedder, "contents": contents}
    common = both | {"embeddings": settings.embeddings, "seed": settings.seed}
    rows = [conversation_row(c, i) for i, c in enumerate(labelled)]
    whole, scores = View.fit(
        rows,
        gold,
        examples,
        by_turn=False,
        progress=_stage(progress, "learn conversations"),
        lessons=lesson_rows(lessons, names, len(rows) + len(examples.texts)),
        **common,
    )
    tuning = both | {"settings": settings, "progress": _stage(progress, "tune encoders (steps)")}
    evidence = {i: e for i, c in enumerate(labelled) if (e := evidence_labels(c, names)) is not None}
    longer = sum(len(e) > 1 for e in evidence.values())
    if longer < MIN_TURN_CONVERSATIONS:
        if not settings.tune:
            return [whole], scores[None]
        tuned, tuned_scores = TunedView.fit(rows, gold, examples, by_turn=False, **tuning)
        return [whole, tuned], np.stack([scores, tuned_scores])
    told = [row for i in evidence for row in turn_rows(labelled[i], i)]
    labels = np.vstack(list(evidence.values()))
    if names[-1] == "":
        labels[:, -1] = ~labels[:, :-1].any(axis=1)
    turns, told_scores = View.fit(
        told, labels, examples, by_turn=True, progress=_stage(progress, "learn turns"), **common
    )
    views: list[AnyView] = [turns]
    row_scores = [told_scores]
    if settings.tune:
        tuned, tuned_scores = TunedView.fit(told, labels, examples, by_turn=True, **tuning)
        views.append(tuned)
        row_scores.append(tuned_scores)
    pooled = np.stack([pool(values, told, len(labelled)) for values in row_scores])
    rest = [i for i in range(len(labelled)) if i not in evidence]
    if rest:
        pooled[:, rest] = view_scores(views, [labelled[i] for i in rest], embedder, None)[0]
        # What says the same as one with evidence was learned from: it has that one's score, which was left out.
        told_twin = {contents[i]: i for i in evidence}
        copies = [i for i in rest if contents[i] in told_twin]
        pooled[:, copies] = pooled[:, [told_twin[contents[i]] for i in copies]]
    return [whole, *views], np.concatenate([scores[None], pooled])


def view_scores(
    views: Sequence[AnyView], conversations: Sequence[Conversation], embedder: Embedder, progress: Progress | None
) -> tuple[Array, dict[int, tuple[list[int], Array]]]:
    """(v, n, t) scores, and for each conversation its turn numbers with their (turns, t) scores."""
    out = []
    per_turn: dict[int, tuple[list[int], Array]] = {}
    for view in views:
        rows = view.rows(conversations)
        values = view.row_scores(rows, embedder, progress)
        if not view.by_turn:
            out.append(values)
            continue
        out.append(pool(values, rows, len(conversations)))
        owners = np.array([row.owner for row in rows], dtype=np.int64)
        edges = np.searchsorted(owners, np.arange(len(conversations) + 1))
        for owner in range(len(conversations)):
            mine = slice(int(edges[owner]), int(edges[owner + 1]))
            if mine.stop > mine.start:
                # The first view by turns says which turn is the evidence: it sees the turns around it.
                per_turn.setdefault(owner, ([row.turn for row in rows[mine]], values[mine]))
    return np.stack(out), per_turn


def training_key(
    train: Sequence[Conversation],
    calibration: Sequence[Conversation],
    tags: Sequence[str],
    taxonomy: Taxonomy | None,
    settings: StudentSettings,
    *,
    embedding_model: str,
    lessons: Sequence[Lesson] = (),
) -> str:
    """SHA-256 over all that decides the model: data in order, tags, taxonomy, settings, code and embedding versions."""
    digest = hashlib.sha256()
    # A taxonomy's hash is of what an LLM is told; the student learns from the examples as well.
    shown = [[tag.id, e.conversation_id, e.text] for tag in (taxonomy.tags if taxonomy else ()) for e in tag.examples]
    head = [CODE_VERSION, embedding_model, list(tags), taxonomy.content_hash if taxonomy else None, shown]
    how = [settings.embeddings, settings.seed, *((settings.tune_epochs, settings.tune_folds) if settings.tune else ())]
    digest.update(json.dumps([*head, *how], ensure_ascii=False).encode())
    for part in (train, calibration):
        digest.update(b"\n--\n")
        for c in part:
            row = [c.conversation_id, c.content_hash, c.labels, c.turn_labels]
            digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for lesson in lessons:
        digest.update(json.dumps([lesson.conversation.content_hash, sorted(lesson.verdicts.items())]).encode())
    return digest.hexdigest()
