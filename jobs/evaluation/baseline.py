"""The yardstick: one-vs-rest logistic regression over TF-IDF, on wish beside sentence embeddings; no tuning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.student.embed import Embedder
from jobs.student.features import is_chinese
from jobs.student.training import gold_matrix

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_EMBEDDING_WEIGHT = 1.5


def _vectorizer(texts: Sequence[str]) -> FeatureUnion:
    """Words, pairs of words, and pieces of words; characters to four at a time where the texts are Chinese."""
    if is_chinese(texts):
        return FeatureUnion([("characters", TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True))])
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    return FeatureUnion([("words", words), ("pieces", pieces)])


def _with_embeddings(
    learnt: sparse.csr_matrix, unseen: sparse.csr_matrix, texts: tuple[Sequence[str], Sequence[str]], embedder: Embedder
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """The features with the embedding of each whole text beside them, centred, at a weight like that of the words."""
    first, second = (embedder.embed(part) for part in texts)
    centre = first.mean(axis=0)
    scale = np.float32(_EMBEDDING_WEIGHT / max(float(np.sqrt(((first - centre) ** 2).sum(axis=1).mean())), 1e-6))
    dense = [sparse.csr_matrix((part - centre) * scale) for part in (first, second)]
    return (
        sparse.csr_matrix(sparse.hstack([learnt, dense[0]])),
        sparse.csr_matrix(sparse.hstack([unseen, dense[1]])),
    )


def baseline(
    train: Sequence[Conversation],
    test: Sequence[Conversation],
    tags: Sequence[str],
    seed: int,
    embedder: Embedder | None = None,
) -> tuple[Array, Bools]:
    """(n, t) probabilities and decisions (at 0.5; the best tag where training data has exactly one a conversation).

    With an `embedder`, the embedding of what the customer says stands beside the words. Classes are weighted by their
    inverse frequency: without that, rare tags would hardly ever reach 0.5.

    Raises:
        InputError: `train` has no labelled conversation.
    """
    labelled = [c for c in train if c.labels is not None]
    if not labelled:
        raise InputError("training data: no conversation has labels")
    gold = gold_matrix(labelled, tags)
    texts = [c.customer_text for c in labelled]
    vectorizer = _vectorizer(texts)
    try:
        features = sparse.csr_matrix(vectorizer.fit_transform(texts))
    except ValueError as error:
        raise InputError(f"training data: the customers' turns hold no words ({error})") from error
    held = [c.customer_text for c in test]
    unseen = sparse.csr_matrix(vectorizer.transform(held))
    if embedder is not None:
        features, unseen = _with_embeddings(features, unseen, (texts, held), embedder)
    probabilities = np.zeros((len(test), len(tags)))
    for tag in range(len(tags)):
        positives = int(gold[:, tag].sum())
        if positives == len(gold):
            probabilities[:, tag] = 1.0
        elif positives:
            model = LogisticRegression(C=10.0, solver="liblinear", class_weight="balanced", random_state=seed)
            probabilities[:, tag] = model.fit(features, gold[:, tag]).predict_proba(unseen)[:, 1]
    if (gold.sum(axis=1) == 1).all() and len(tags) > 1:
        return probabilities, np.eye(len(tags), dtype=np.bool_)[probabilities.argmax(axis=1)]
    return probabilities, probabilities >= 0.5
