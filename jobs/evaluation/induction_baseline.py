"""The yardsticks of induction, as anybody would start: k-means with the best silhouette, a consensus of clusterings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.induction.cluster import Grouping, group_turns
from jobs.induction.features import FloatArray, plain_view
from jobs.induction.groups import describe
from jobs.induction.induce import Assignment, Induced, main_language
from jobs.induction.proposal import build_taxonomy, keyword_naming
from jobs.induction.seen import spread, voters_of
from jobs.induction.turns import CustomerTurn, customer_turns
from jobs.student.embed import Embedder
from jobs.student.training import StageProgress

_COUNTS = (5, 8, 11, 14, 17, 20, 24, 28, 33, 38, 44, 50)
_SILHOUETTE_TURNS = 2_000


def _embedded(
    conversations: Sequence[Conversation], embedder: Embedder, progress: StageProgress | None
) -> tuple[list[CustomerTurn], FloatArray]:
    """The customer turns and their (n, d) embeddings; raises InputError where there are fewer than ten."""
    turns = customer_turns(conversations)
    if len(turns) < 2 * _COUNTS[0]:
        raise InputError(f"{len(turns)} customer turns: a yardstick needs at least {2 * _COUNTS[0]}")

    def say(done: int, total: int) -> None:
        if progress:
            progress("embedding turns", done, total)

    return turns, np.asarray(embedder.embed([turn.text for turn in turns], say), dtype=np.float32)


def _induced(turns: list[CustomerTurn], grouping: Grouping, sentences: FloatArray, name: str) -> Induced:
    """Every turn in its group, the groups named by keywords."""
    groups = describe(turns, grouping, sentences)
    language = main_language(turns)
    namings = {group.number: keyword_naming(group, language) for group in groups}
    taxonomy = build_taxonomy(groups, namings, name=name, language=language)
    return Induced(
        taxonomy,
        tuple(
            Assignment(turn.conversation_id, turn.turn, taxonomy.tags[int(label)].id, 1.0)
            for turn, label in zip(turns, grouping.labels, strict=True)
        ),
    )


def kmeans_induce(
    conversations: Sequence[Conversation],
    *,
    seed: int,
    embedder: Embedder,
    name: str = "baseline",
    progress: StageProgress | None = None,
) -> Induced:
    """Tags of k-means over turn embeddings, k of 5 to 50 with the best silhouette (Rousseeuw 1987); keyword names.

    Raises:
        InputError: there are fewer than ten customer turns.
    """
    turns, sentences = _embedded(conversations, embedder, progress)
    best, labels = -2.0, np.zeros(len(turns), dtype=np.int64)
    for count in (count for count in _COUNTS if count < len(turns)):
        found = KMeans(count, n_init=1, random_state=seed).fit_predict(sentences).astype(np.int64)
        if len(np.unique(found)) < 2:
            continue
        sample = min(_SILHOUETTE_TURNS, len(turns))
        score = float(silhouette_score(sentences, found, sample_size=sample, random_state=seed))
        if score > best:
            best, labels = score, found
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return _induced(turns, Grouping(labels, np.ones(len(turns))), sentences, name)


def consensus_induce(
    conversations: Sequence[Conversation],
    *,
    seed: int,
    embedder: Embedder,
    name: str = "consensus",
    progress: StageProgress | None = None,
) -> Induced:
    """Tags of several UMAP draws with k-means and HDBSCAN that vote, on embeddings alone, cut at a fixed agreement.

    As many turns vote as with our own recipe; a classifier assigns the rest.

    Raises:
        InputError: there are fewer than ten customer turns.
    """
    turns, sentences = _embedded(conversations, embedder, progress)

    def say(text: str) -> None:
        if progress:
            progress(text, 0, 1)

    with threadpool_limits(limits=1):
        view, voters = plain_view(sentences, seed), voters_of(len(turns), seed)
        grouping = spread(group_turns([view[voters]], seed, say), voters, view, seed)
    return _induced(turns, grouping, sentences, name)


Yardstick = Literal["kmeans", "consensus"]
YARDSTICKS: Mapping[Yardstick, Callable[..., Induced]] = MappingProxyType(
    {"kmeans": kmeans_induce, "consensus": consensus_induce}
)
