"""Views of a turn that clustering looks through: sentence embedding, words, and both.

No single view wins on every set (docs/experiments-induction.md): embeddings blur the words that tell neighbouring
intents apart, words miss paraphrases. So each view is kept and the consensus in `cluster` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from jobs.induction.words import words_and_pairs

FloatArray = npt.NDArray[np.float32]

_LEXICAL_DIMENSIONS = 100
_SENTENCE_DIMENSIONS = 64
_WHITENED_DIMENSIONS = 100
_LEXICAL_WEIGHT = 0.6
_NEIGHBOUR_WEIGHT = 0.3


def lexical(texts: Sequence[str], seed: int) -> FloatArray:
    """(n, up to 200) float32, unit rows: SVD of word 1-2-gram and of character 3-5-gram TF-IDF, side by side.

    Terms in more than three in ten turns carry no intent and are left out; a set too small or too uniform for any
    term gives a single column of zeros.
    """
    fewest = 3 if len(texts) >= 100 else 1
    common = {"min_df": fewest, "max_df": 0.3 if len(texts) >= 20 else 1.0, "sublinear_tf": True, "dtype": np.float32}
    parts: list[FloatArray] = []
    for vectorizer in (
        TfidfVectorizer(analyzer=words_and_pairs, **common),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common),
    ):
        try:
            table = vectorizer.fit_transform(texts)
        except ValueError:  # scikit-learn's way to say that no term is left
            continue
        dimensions = min(_LEXICAL_DIMENSIONS, table.shape[1] - 1, table.shape[0] - 1)
        if dimensions >= 1:
            parts.append(normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(table)))
    if not parts:
        return np.zeros((len(texts), 1), dtype=np.float32)
    return np.asarray(normalize(np.hstack(parts)), dtype=np.float32)


def _principal(sentences: FloatArray, dimensions: int, power: float, seed: int) -> FloatArray:
    """Unit rows of the first principal components, each divided by its variance to the `power` over two."""
    dimensions = min(dimensions, len(sentences) - 1, sentences.shape[1])
    if dimensions < 1:  # one turn has no directions
        return sentences
    pca = PCA(dimensions, random_state=seed)
    scores = pca.fit_transform(sentences)
    spread = np.maximum(pca.explained_variance_, 1e-9) ** (power / 2)
    return np.asarray(normalize(scores / spread), dtype=np.float32)


def plain_view(sentences: FloatArray, seed: int) -> FloatArray:
    """(n, up to 64) unit rows: embeddings, centred (e5's cosines crowd around a common direction) and reduced."""
    return _principal(sentences, _SENTENCE_DIMENSIONS, 0.0, seed)


def views(sentences: FloatArray, words_svd: FloatArray, seed: int) -> list[FloatArray]:
    """Three views of n turns, each (n, d) float32.

    1. `plain_view`;
    2. the same beside the lexical features at weight 0.6;
    3. half-whitened embeddings beside the lexical features: rare directions weigh more.
    """
    plain = plain_view(sentences, seed)
    whitened = _principal(sentences, _WHITENED_DIMENSIONS, 0.5, seed)
    return [
        plain,
        np.hstack([plain, np.float32(_LEXICAL_WEIGHT) * words_svd]),
        np.hstack([whitened, words_svd]),
    ]


def with_neighbours(rows: FloatArray, chats: Sequence[str]) -> FloatArray:
    """(n, d) unit rows, centred, each mixed with the mean of the turns right before and after it in its chat.

    `chats` (n,) names the chat of each row; turns of a chat stand side by side, in their order. People say one wish in
    several messages. Where no chat has two turns, rows come back as they are.
    """
    same = np.array([here == after for here, after in pairwise(chats)], dtype=bool)
    if not same.any():
        return rows
    before, after = np.append(False, same)[:, None], np.append(same, False)[:, None]
    centred = normalize(rows - rows.mean(axis=0, keepdims=True))
    near = before * np.roll(centred, 1, axis=0) + after * np.roll(centred, -1, axis=0)
    near /= np.maximum(before.astype(int) + after, 1)
    return np.asarray(normalize(centred + _NEIGHBOUR_WEIGHT * near), dtype=np.float32)


def classifier_features(sentences: FloatArray, words_svd: FloatArray) -> FloatArray:
    """(n, 384 + d) float32 for the linear classifier: centred embeddings beside the lexical features."""
    centred = normalize(sentences - sentences.mean(axis=0, keepdims=True))
    return np.hstack([centred, np.float32(_LEXICAL_WEIGHT) * words_svd]).astype(np.float32)
