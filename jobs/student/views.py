"""Two views of a conversation: as a whole, and turn by turn. Each gives one score a conversation and tag."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.conversation import Conversation
from jobs.student.embed import Embedder, Progress
from jobs.student.features import (
    CONVERSATION_SLOTS,
    TURN_SLOTS,
    Features,
    FeatureSpace,
    Row,
    Slot,
    conversation_row,
    plain_row,
    turn_rows,
)
from jobs.student.kernel import KernelRidge, choose
from jobs.taxonomy import Taxonomy

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CANDIDATES = ((0.1, 1.0), (0.1, 2.0), (0.1, 4.0), (0.3, 4.0), (0.3, 8.0))
"""(ridge, factor on the embedding of the row's own words)."""
CHOOSE_ROWS = 2_000
SHARPNESS = 4.0
SILENT = -1.2
"""The score of a conversation in which the customer says nothing: below any turn's."""


@dataclass(frozen=True)
class Examples:
    """Extra training texts that belong to no conversation, with their (k, t) tags."""

    texts: tuple[str, ...]
    tags: Bools


@dataclass(frozen=True)
class LessonRows:
    """Rows of conversations that somebody else labelled in part: (k, t) `labels`, of which only `known` count."""

    rows: tuple[Row, ...]
    labels: Bools
    known: Bools


def taxonomy_examples(taxonomy: Taxonomy | None, tags: Sequence[str], known: set[str]) -> Examples:
    """Definitions, `include` and examples as positives; `exclude` as a positive of the tags it names, else of none.

    An example cut from a conversation counts only if that conversation is in `known` (the training data).
    """
    place = {tag: i for i, tag in enumerate(tags)}
    texts: list[str] = []
    rows: list[list[str]] = []
    for tag in taxonomy.tags if taxonomy else ():
        if tag.id not in place:
            continue
        own = [e.text for e in tag.examples if e.conversation_id is None or e.conversation_id in known]
        for text in (tag.definition, *tag.include, *own):
            texts.append(text)
            rows.append([tag.id])
        for text in tag.exclude:
            texts.append(re.split("[（(]", text)[0])
            rows.append([t for t in tags if t != tag.id and re.search(rf"\b{re.escape(t)}\b", text, re.ASCII)])
    labels = np.zeros((len(texts), len(tags)), dtype=np.bool_)
    for row, named in enumerate(rows):
        labels[row, [place[t] for t in named]] = True
    return Examples(tuple(texts), labels)


def _targets(labels: Bools) -> Array:
    return labels.astype(np.float64) * 2 - 1


class View:
    """A feature space and a kernel machine over rows of one kind."""

    def __init__(self, space: FeatureSpace, machine: KernelRidge, by_turn: bool) -> None:
        self.space = space
        self.machine = machine
        self.by_turn = by_turn

    @classmethod
    def fit(
        cls,
        rows: Sequence[Row],
        labels: Bools,
        examples: Examples,
        *,
        by_turn: bool,
        contents: npt.NDArray[np.int64],
        embeddings: bool,
        embedder: Embedder,
        seed: int,
        progress: Progress | None,
        lessons: LessonRows | None = None,
    ) -> tuple[View, Array]:
        """Fit on rows with (n, t) labels; also the (n, t) scores of the rows, each without its own conversation.

        `contents` (by owner): a number that conversations share which say the same; all of them are left out together.
        `lessons` are learned from, but neither chosen by nor scored.
        """
        slots: tuple[Slot, ...] = TURN_SLOTS if by_turn else CONVERSATION_SLOTS
        taught = lessons or LessonRows((), labels[:0], labels[:0])
        everything = [*rows, *(plain_row(text, slots) for text in examples.texts), *taught.rows]
        space = FeatureSpace(slots, embeddings)
        features = space.fit(everything, embedder, progress)
        targets = _targets(np.vstack([labels, examples.tags, taught.labels]))
        extra = len(examples.texts) + len(taught.rows)
        groups = np.array([*(contents[row.owner] for row in rows), *(-1 - i for i in range(extra))], dtype=np.int64)
        whole = np.arange(len(features) - len(taught.rows))
        judged = features.take(whole) if taught.rows else features
        ridge, weights = _choose(judged, targets[whole], groups[whole], space.dense_weights, seed)
        machine = KernelRidge(ridge, weights)
        known = np.vstack([np.ones((len(whole), labels.shape[1]), np.bool_), taught.known]) if taught.rows else None
        scores = machine.fit(features, targets, groups, seed, known)
        return cls(space, machine, by_turn), scores[: len(rows)]

    def rows(self, conversations: Sequence[Conversation]) -> list[Row]:
        """This view's rows; `owner` is the place in `conversations`."""
        if not self.by_turn:
            return [conversation_row(c, i) for i, c in enumerate(conversations)]
        return [row for i, c in enumerate(conversations) for row in turn_rows(c, i)]

    def row_scores(self, rows: Sequence[Row], embedder: Embedder, progress: Progress | None) -> Array:
        """(rows, t) scores."""
        return self.machine.predict(self.space.transform(rows, embedder, progress))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """(JSON-able part, arrays)."""
        meta, arrays = self.space.state()
        return {"space": meta, "by_turn": self.by_turn}, arrays | self.machine.state()

    @classmethod
    def restore(cls, meta: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> View:
        """The view that `state` described."""
        return cls(FeatureSpace.restore(meta["space"], arrays), KernelRidge.restore(arrays), bool(meta["by_turn"]))


def _choose(
    features: Features, targets: Array, groups: npt.NDArray[np.int64], base: Sequence[float], seed: int
) -> tuple[float, tuple[float, ...]]:
    """Ridge and weights by left-out error, on whole groups of a seeded sample where there are many rows."""
    if len(features) > CHOOSE_ROWS:
        shuffled = np.random.default_rng(seed).permutation(np.unique(groups))
        sizes = np.cumsum([int(n) for n in np.bincount(groups - groups.min())[shuffled - groups.min()]])
        chosen = np.flatnonzero(np.isin(groups, shuffled[: max(1, int(np.searchsorted(sizes, CHOOSE_ROWS)))]))
        features, targets, groups = features.take(chosen), targets[chosen], groups[chosen]
    return choose(features, targets, groups, base, CANDIDATES)


def pool(scores: Array, rows: Sequence[Row], conversations: int) -> Array:
    """(conversations, t): a soft maximum over each conversation's turns, log-sum-exp with sharpness 4."""
    total = np.full((conversations, scores.shape[1]), np.exp(SHARPNESS * SILENT))
    np.add.at(total, [row.owner for row in rows], np.exp(SHARPNESS * scores))
    return np.asarray(np.log(total) / SHARPNESS)


def evidence_labels(conversation: Conversation, tags: Sequence[str]) -> Bools | None:
    """(customer turns, t) from `turn_labels`, or None where a label of the conversation has no customer turn."""
    if conversation.turn_labels is None or not conversation.customer_turns:
        return None
    wanted = set(conversation.labels or ()) & set(tags)
    out = np.array(
        [
            [tag in wanted and tag in conversation.turn_labels[number] for tag in tags]
            for number, _ in conversation.customer_turns
        ],
        dtype=np.bool_,
    )
    return out if int(out.any(axis=0).sum()) == len(wanted) else None
