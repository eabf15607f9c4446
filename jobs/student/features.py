"""What the student sees: rows of texts, turned into one sparse lexical matrix and dense embeddings per slot.

A *row* is a whole conversation or one customer turn. Its *slots* are the customer's own words first, and around them
the agent's side and the neighbouring turns as context, each with a weight of its own in the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from jobs.conversation import CUSTOMER, Conversation
from jobs.errors import InputError
from jobs.student.embed import Embedder, Progress, clean

FloatArray = npt.NDArray[np.float32]
WORD = re.compile(r"\w+")
CJK = re.compile(r"[\u3400-\u9fff]")
CONTEXT_CHARS = 200
MAX_FEATURES = 60_000


@dataclass(frozen=True, slots=True)
class Slot:
    """One text of a row: weight of its TF-IDF and of its embedding in the kernel (0: not computed)."""

    name: str
    lexical: float
    embedding: float


CONVERSATION_SLOTS = (Slot("customer", 1.0, 1.0), Slot("agent", 0.3, 0.0))
TURN_SLOTS = (
    Slot("own", 1.0, 1.0),
    Slot("agent_before", 0.3, 0.3),
    Slot("agent_after", 0.2, 0.3),
    Slot("customer_before", 0.2, 0.3),
    Slot("customer_after", 0.2, 0.3),
)


@dataclass(frozen=True, slots=True)
class Row:
    """`owner`: index of the conversation (-1: no conversation's); `turn`: turn number, -1 for the whole."""

    owner: int
    turn: int
    texts: tuple[str, ...]


def conversation_row(conversation: Conversation, owner: int) -> Row:
    """The whole conversation as one row."""
    agent = "\n".join(turn.text for turn in conversation.turns if turn.speaker != CUSTOMER)
    return Row(owner, -1, (clean(conversation.customer_text), clean(agent)))


def plain_row(text: str, slots: Sequence[Slot], owner: int = -1, turn: int = -1) -> Row:
    """A text with nothing around it."""
    return Row(owner, turn, (clean(text), *("" for _ in slots[1:])))


def turn_rows(conversation: Conversation, owner: int) -> list[Row]:
    """One row for each customer turn with the agent's and the customer's nearest words before and after it."""
    turns = conversation.turns
    spoken = [number for number, _ in conversation.customer_turns]
    rows = []
    for place, number in enumerate(spoken):
        before = number
        while before > 0 and turns[before - 1].speaker != CUSTOMER:
            before -= 1
        agent_before = " ".join(turn.text for turn in turns[before:number])
        after = turns[number + 1] if number + 1 < len(turns) else None
        agent_after = after.text if after is not None and after.speaker != CUSTOMER else ""
        previous = turns[spoken[place - 1]].text if place else ""
        following = turns[spoken[place + 1]].text if place + 1 < len(spoken) else ""
        context = (
            agent_before[-CONTEXT_CHARS:],
            agent_after[:CONTEXT_CHARS],
            previous[-CONTEXT_CHARS:],
            following[:CONTEXT_CHARS],
        )
        rows.append(Row(owner, number, (clean(turns[number].text), *(clean(text) for text in context))))
    return rows


@dataclass(frozen=True, slots=True)
class Features:
    """n rows: `lexical` (n, v) sparse, scaled so that its Gram matrix is the weighted lexical kernel; `dense` holds an
    (n, d) float32 array for each slot that has an embedding weight, centred and scaled."""

    lexical: sparse.csr_matrix
    dense: tuple[FloatArray, ...]

    def __len__(self) -> int:
        return int(self.lexical.shape[0])

    def take(self, index: npt.NDArray[np.intp]) -> Features:
        """The rows of this index."""
        return Features(self.lexical[index], tuple(block[index] for block in self.dense))


def _vectorizers(chinese: bool, rows: int) -> tuple[TfidfVectorizer, TfidfVectorizer]:
    """Words and characters. Chinese has no spaces: character n-grams stand for words there."""
    rare = 2 if rows >= 50 else 1
    common: dict[str, Any] = {
        "sublinear_tf": True,
        "token_pattern": None,
        "dtype": np.float32,
        "max_features": MAX_FEATURES,
    }
    if chinese:
        return (
            TfidfVectorizer(analyzer="char", ngram_range=(2, 3), **common),
            TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=rare, **common),
        )
    return (
        TfidfVectorizer(ngram_range=(1, 2), tokenizer=WORD.findall, **common),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=rare, **common),
    )


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether at least a fifth of the characters are Chinese."""
    joined = "".join(text[:500] for text in texts[:2_000])
    return bool(joined) and len(CJK.findall(joined)) >= 0.2 * len(joined)


class FeatureSpace:
    """Vocabulary, inverse document frequencies and centring, learnt from training rows."""

    def __init__(self, slots: Sequence[Slot], embeddings: bool) -> None:
        self.slots = tuple(slots if embeddings else (Slot(s.name, s.lexical, 0.0) for s in slots))
        self.chinese = False
        self._vectorizers: tuple[TfidfVectorizer, TfidfVectorizer] | None = None
        self._centres: list[FloatArray] = []
        self._scales: list[float] = []

    @property
    def dense_weights(self) -> tuple[float, ...]:
        """Kernel weight of each dense block, the row's own words first."""
        return tuple(slot.embedding for slot in self.slots if slot.embedding > 0)

    def fit(self, rows: Sequence[Row], embedder: Embedder, progress: Progress | None = None) -> Features:
        """Learn the space from rows and return their features.

        Raises:
            InputError: no row holds a single character that could be a feature.
        """
        texts = [text for row in rows for text in row.texts if text.strip()]
        self.chinese = is_chinese(texts)
        self._vectorizers = _vectorizers(self.chinese, len(rows))
        for vectorizer in self._vectorizers:
            try:
                vectorizer.fit(texts)
            except ValueError as error:
                raise InputError(f"training data: the customers' turns hold no words ({error})") from error
        raw = self._embed(rows, embedder, progress)
        for block in raw:
            centre = block.mean(axis=0)
            spread = float(np.sqrt(((block - centre) ** 2).sum(axis=1).mean()))
            self._centres.append(centre)
            self._scales.append(spread if spread > 1e-6 else 1.0)
        return Features(self._lexical(rows), self._scaled(raw))

    def transform(self, rows: Sequence[Row], embedder: Embedder, progress: Progress | None = None) -> Features:
        """Features of new rows."""
        return Features(self._lexical(rows), self._scaled(self._embed(rows, embedder, progress)))

    def lexical_only(self, rows: Sequence[Row]) -> sparse.csr_matrix:
        """(n, v): the lexical half alone, which costs no embedding."""
        return self._lexical(rows)

    def _lexical(self, rows: Sequence[Row]) -> sparse.csr_matrix:
        if self._vectorizers is None:
            raise RuntimeError("fit comes first")
        # A turn is read again as its neighbours' context: each distinct text is analysed once.
        place_of: dict[str, int] = {}
        taken = [[place_of.setdefault(text, len(place_of)) for text in row.texts] for row in rows]
        matrices = [vectorizer.transform(list(place_of)) for vectorizer in self._vectorizers]
        blocks = []
        for place, slot in enumerate(self.slots):
            chosen = [numbers[place] for numbers in taken]
            blocks += [matrix[chosen] * np.float32(np.sqrt(slot.lexical / 2)) for matrix in matrices]
        return sparse.csr_matrix(sparse.hstack(blocks, format="csr", dtype=np.float32))

    def _embed(self, rows: Sequence[Row], embedder: Embedder, progress: Progress | None) -> list[FloatArray]:
        places = [place for place, slot in enumerate(self.slots) if slot.embedding > 0]
        if not places or not rows:
            return [np.zeros((0, embedder.dimensions), dtype=np.float32) for _ in places]
        flat = embedder.embed([row.texts[place] for place in places for row in rows], progress)
        return [flat[i * len(rows) : (i + 1) * len(rows)] for i in range(len(places))]

    def _scaled(self, raw: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
        return tuple((b - c) / np.float32(s) for b, c, s in zip(raw, self._centres, self._scales, strict=True))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """(JSON-able part, arrays): all that `restore` needs."""
        if self._vectorizers is None:
            raise RuntimeError("fit comes first")
        meta = {
            "slots": [[s.name, s.lexical, s.embedding] for s in self.slots],
            "chinese": self.chinese,
            "scales": self._scales,
            "vocabularies": [{term: int(i) for term, i in v.vocabulary_.items()} for v in self._vectorizers],
        }
        arrays = {f"idf_{i}": v.idf_ for i, v in enumerate(self._vectorizers)}
        return meta, arrays | {f"centre_{i}": c for i, c in enumerate(self._centres)}

    @classmethod
    def restore(cls, meta: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> FeatureSpace:
        """The space that `state` described."""
        space = cls([Slot(*slot) for slot in meta["slots"]], embeddings=True)
        space.chinese = meta["chinese"]
        space._scales = list(meta["scales"])
        space._centres = [arrays[f"centre_{i}"] for i in range(len(space._scales))]
        fresh = _vectorizers(space.chinese, 50)
        for i, (vectorizer, vocabulary) in enumerate(zip(fresh, meta["vocabularies"], strict=True)):
            vectorizer.set_params(vocabulary=vocabulary)
            vectorizer.idf_ = arrays[f"idf_{i}"]
        space._vectorizers = fresh
        return space
