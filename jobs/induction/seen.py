"""Turns as grouping sees them: which ones vote, what they say, and where there is an LLM what they want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import normalize

from jobs.induction.asking import Asker
from jobs.induction.cluster import Grouping, extend
from jobs.induction.features import FloatArray, classifier_features, lexical
from jobs.induction.turns import CustomerTurn
from jobs.induction.wishes import with_wishes
from jobs.student.embed import Embedder
from jobs.student.training import StageProgress

VOTING_TURNS = 4_000
"""So many turns are clustered (votes need n squared memory); the classifier assigns the rest."""

EMBEDDED_TURNS = 20_000
"""Beyond so many turns only the voting ones are embedded, and the rest is assigned by its words alone."""


@dataclass(frozen=True, slots=True)
class Seen:
    """n turns as the grouping sees them; `voters` (v,) are the rows that vote, `turns` those with their wishes.

    `sentences` (v, s) and `words` (v, d) are of the voters, wishes included. What others are compared with has none:
    `plain` (v, s), the voters' own words, and `features` (n, d) of all turns alike, which the classifier reads.
    """

    voters: npt.NDArray[np.int64]
    turns: list[CustomerTurn]
    sentences: FloatArray
    words: FloatArray
    plain: FloatArray
    features: FloatArray


def _embed(
    texts: Sequence[str], turns: Sequence[CustomerTurn], embedder: Embedder, progress: StageProgress | None
) -> FloatArray:
    """(n, d) unit rows: the mean of a text's embedding and that of its turn's core, which courtesies do not colour."""

    def say(done: int, total: int) -> None:
        if progress:
            progress("embedding turns", done, total)

    both = embedder.embed([*texts, *(turn.core for turn in turns)], say)
    return np.asarray(normalize(both[: len(turns)] + both[len(turns) :]), dtype=np.float32)


def see(
    turns: Sequence[CustomerTurn],
    seed: int,
    embedder: Embedder,
    *,
    asker: Asker | None,
    language: str,
    progress: StageProgress | None,
) -> Seen:
    """Draw the voters and see every turn; with an `asker` the voters are asked what they want.

    Raises:
        ServerError: there is an asker and its server answers nothing.
    """
    words = lexical([turn.core for turn in turns], seed)
    count = len(turns)
    everyone = np.arange(count)
    voters = everyone
    if count > VOTING_TURNS:
        voters = np.sort(np.random.default_rng(seed).choice(count, VOTING_TURNS, replace=False))
    embedded = everyone if count <= EMBEDDED_TURNS else voters
    known = [turns[i] for i in embedded.tolist()]
    rows = _embed([turn.text for turn in known], known, embedder, progress)
    plain = rows if len(embedded) == len(voters) else rows[voters]
    features = words if len(embedded) < count else classifier_features(rows, words)
    voting = [turns[i] for i in voters.tolist()]
    if asker is not None:
        voting = with_wishes(voting, asker, language, embedder.embed, progress)
    if not any(turn.wish for turn in voting):
        return Seen(voters, voting, plain, words[voters], plain, features)
    said = [f"{turn.wish} {turn.core}" if turn.wish else turn.core for turn in voting]
    return Seen(voters, voting, _embed(said, voting, embedder, progress), lexical(said, seed), plain, features)


def spread(voted: Grouping, seen: Seen, seed: int) -> Grouping:
    """The groups of all turns: of the voters as they are, of the rest by the classifier."""
    count = len(seen.features)
    others = np.setdiff1d(np.arange(count), seen.voters)
    labels, confidence = np.zeros(count, dtype=np.int64), np.zeros(count)
    labels[seen.voters], confidence[seen.voters] = voted.labels, voted.confidence
    labels[others], confidence[others] = extend(voted, seen.features[seen.voters], seen.features[others], seed)
    return Grouping(labels, confidence)
