"""From conversations to a proposed taxonomy and a tag for every customer turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.induction.cluster import Grouping, extend, group_turns
from jobs.induction.features import FloatArray, classifier_features, lexical, views
from jobs.induction.groups import describe
from jobs.induction.naming import Namer
from jobs.induction.proposal import NO_INTENT, build_taxonomy, keyword_naming
from jobs.induction.turns import CustomerTurn, customer_turns
from jobs.induction.words import HAN
from jobs.student.embed import Embedder
from jobs.student.training import StageProgress
from jobs.taxonomy import Taxonomy

VOTING_TURNS = 4_000
"""So many turns are clustered (votes need n squared memory); the classifier assigns the rest."""

EMBEDDED_TURNS = 20_000
"""Beyond so many turns only the voting ones are embedded, and the rest is assigned by its words alone."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """`tag` is an id of the taxonomy, or `none` for a turn without a wish. `confidence` in 0..1 ranks, no more."""

    conversation_id: str
    turn: int
    tag: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Induced:
    """A proposed taxonomy, one assignment a customer turn in order of the input, and what the LLM was asked."""

    taxonomy: Taxonomy
    assignments: tuple[Assignment, ...]
    trace: tuple[dict[str, Any], ...] = ()


def main_language(turns: Sequence[CustomerTurn]) -> str:
    """`zh` where at least half of the turns hold Chinese characters, else `en`."""
    chinese = sum(bool(HAN.search(turn.text)) for turn in turns)
    return "zh" if 2 * chinese >= len(turns) else "en"


def _embed(turns: Sequence[CustomerTurn], embedder: Embedder, progress: StageProgress | None) -> FloatArray:
    """(n, 384) unit rows: the mean of the turn's embedding and that of its core, which courtesies do not colour."""
    texts = [turn.text for turn in turns] + [turn.core for turn in turns]

    def say(done: int, total: int) -> None:
        if progress:
            progress("embedding turns", done, total)

    both = embedder.embed(texts, say)
    return np.asarray(normalize(both[: len(turns)] + both[len(turns) :]), dtype=np.float32)


def _group_all(
    turns: Sequence[CustomerTurn], seed: int, embedder: Embedder, progress: StageProgress | None
) -> tuple[Grouping, npt.NDArray[np.int64], FloatArray]:
    """Groups of all n turns, the rows that voted, and the embeddings of those."""
    words = lexical([turn.core for turn in turns], seed)
    count = len(turns)
    everyone = np.arange(count)
    voters = everyone
    if count > VOTING_TURNS:
        voters = np.sort(np.random.default_rng(seed).choice(count, VOTING_TURNS, replace=False))
    embedded = everyone if count <= EMBEDDED_TURNS else voters
    sentences = _embed([turns[i] for i in embedded.tolist()], embedder, progress)
    voting = sentences[voters] if len(embedded) == count else sentences

    def say(text: str) -> None:
        if progress:
            progress(text, 0, 1)

    grouping = group_turns(views(voting, words[voters], seed), seed, say)
    if len(voters) == count:
        return grouping, voters, voting
    others = np.setdiff1d(everyone, voters)
    features = classifier_features(sentences, words) if len(embedded) == count else words
    labels, confidence = np.zeros(count, dtype=np.int64), np.zeros(count)
    labels[voters], confidence[voters] = grouping.labels, grouping.confidence
    labels[others], confidence[others] = extend(grouping, features[voters], features[others], seed)
    return Grouping(labels, confidence), voters, voting


def induce(
    conversations: Sequence[Conversation],
    *,
    seed: int,
    embedder: Embedder,
    namer: Namer | None = None,
    language: str | None = None,
    name: str = "induced",
    progress: StageProgress | None = None,
) -> Induced:
    """Induce tags from what customers say; labels in the conversations are never looked at.

    The same conversations and seed give the same groups, however many cores the machine has. `namer` None means names
    by keywords; `language` None means the main one of the turns. Turns without a wish are assigned `none` where the
    input holds whole chats.

    Raises:
        InputError: no conversation has a customer turn.
        ServerError: there is a namer and its server answers nothing.
    """
    turns = customer_turns(conversations)
    if not turns:
        raise InputError("no conversation has a turn whose speaker is `customer`: there is nothing to induce tags from")
    rows = [i for i, turn in enumerate(turns) if turn.carries]
    carrying = [turns[i] for i in rows]
    language = language or main_language(carrying)
    # Sums of two threads differ in their last bits from those of one, and UMAP makes other groups of that.
    with threadpool_limits(limits=1):
        grouping, voters, voting = _group_all(carrying, seed, embedder, progress)
    voted = Grouping(grouping.labels[voters], grouping.confidence[voters])
    groups = describe([carrying[i] for i in voters.tolist()], voted, voting)
    namings = {group.number: keyword_naming(group, language) for group in groups}
    trace: tuple[dict[str, Any], ...] = ()
    if namer is not None:
        named = namer.name_groups(groups, language, progress)
        namings |= named.namings
        trace = named.trace
    taxonomy = build_taxonomy(groups, namings, name=name, language=language)
    tags = [NO_INTENT] * len(turns)
    confidence = [1.0] * len(turns)
    for place, row in enumerate(rows):
        tags[row] = taxonomy.tags[int(grouping.labels[place])].id
        confidence[row] = round(float(grouping.confidence[place]), 4)
    assignments = tuple(
        Assignment(turn.conversation_id, turn.turn, tag, sure)
        for turn, tag, sure in zip(turns, tags, confidence, strict=True)
    )
    return Induced(taxonomy, assignments, trace)
