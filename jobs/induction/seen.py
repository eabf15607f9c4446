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

_WISH_WEIGHT = np.float32(0.5)


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


def _embed(turns: Sequence[CustomerTurn], embedder: Embedder, progress: StageProgress | None) -> FloatArray:
    """(n, d) unit rows: the mean of the turn's embedding and that of its core, which courtesies do not colour."""
    texts = [turn.text for turn in turns] + [turn.core for turn in turns]

    def say(done: int, total: int) -> None:
        if progress:
            progress("embedding turns", done, total)

    both = embedder.embed(texts, say)
    return np.asarray(normalize(both[: len(turns)] + both[len(turns) :]), dtype=np.float32)


def voters_of(count: int, seed: int) -> npt.NDArray[np.int64]:
    """(v,) places of the turns that vote, rising: all of `count`, or `VOTING_TURNS` of them drawn."""
    if count <= VOTING_TURNS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, VOTING_TURNS, replace=False))


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
        InputError: as `with_wishes`.
    """
    words = lexical([turn.core for turn in turns], seed)
    count = len(turns)
    voters = voters_of(count, seed)
    embedded = np.arange(count) if count <= EMBEDDED_TURNS else voters
    rows = _embed([turns[i] for i in embedded.tolist()], embedder, progress)
    plain = rows if len(embedded) == len(voters) else rows[voters]
    features = words if len(embedded) < count else classifier_features(rows, words)
    voting = [turns[i] for i in voters.tolist()]
    if asker is not None:
        voting = with_wishes(voting, asker, language, embedder.embed, progress)
    if not any(turn.wish for turn in voting):
        return Seen(voters, voting, plain, words[voters], plain, features)
    wanted = [turn.wish or turn.core for turn in voting]
    sentences = _beside(plain, embedder.embed(wanted))
    mixed = np.hstack([words[voters], _WISH_WEIGHT * lexical(wanted, seed)])
    return Seen(voters, voting, sentences, np.asarray(normalize(mixed), dtype=np.float32), plain, features)


def _beside(plain: FloatArray, wanted: FloatArray) -> FloatArray:
    """(v, s) unit rows: what turns say and what they want, each side centred on itself."""
    sides = [normalize(side - side.mean(axis=0, keepdims=True)) for side in (plain, wanted)]
    return np.asarray(normalize(sides[0] + _WISH_WEIGHT * sides[1]), dtype=np.float32)


def spread(voted: Grouping, voters: npt.NDArray[np.int64], features: FloatArray, seed: int) -> Grouping:
    """The groups of n turns: of the `voters` (v,) as they are, of the rest by the classifier on `features` (n, d)."""
    count = len(features)
    others = np.setdiff1d(np.arange(count), voters)
    labels, confidence = np.zeros(count, dtype=np.int64), np.zeros(count)
    labels[voters], confidence[voters] = voted.labels, voted.confidence
    labels[others], confidence[others] = extend(voted, features[voters], features[others], seed)
    return Grouping(labels, confidence)
