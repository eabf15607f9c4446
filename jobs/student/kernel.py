"""Kernel ridge regression on one mixed kernel, with exact leave-one-conversation-out predictions.

Least-squares classification with a kernel (Suykens & Vandewalle 1999, "Least squares support vector machine
classifiers"); leaving a group out costs no refit (Cawley & Talbot 2003, "Efficient leave-one-out cross-validation of
kernel Fisher discriminant classifiers"); above `EXACT_ROWS` rows a Nystroem subset of regressors (Williams & Seeger
2001, "Using the Nystroem method to speed up kernel machines").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from jobs.student.features import Features

EXACT_ROWS = 10_000
LANDMARKS = 6_000
JITTER = 1e-3
"""On the landmarks' diagonal, relative to its mean: rows said twice and single precision leave it singular without."""
BIAS = 0.3
WIDTH = 0.5
CHUNK = 512

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]


def lexical_gram(left: sparse.csr_matrix, right: sparse.csr_matrix) -> npt.NDArray[np.float32]:
    """(n, m) inner products; a sparse matrix times dense slices is several times faster than sparse times sparse."""
    out = np.empty((left.shape[0], right.shape[0]), dtype=np.float32)
    for start in range(0, right.shape[0], CHUNK):
        part = np.ascontiguousarray(right[start : start + CHUNK].toarray().T)
        out[:, start : start + CHUNK] = left @ part
    return out


def rbf_gram(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, m): exp(-WIDTH · squared distance)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    distances = np.maximum(squares - 2 * (left @ right.T), 0)
    return np.asarray(np.exp(-WIDTH * distances, dtype=np.float32))


def gram(left: Features, right: Features, weights: Sequence[float]) -> Array:
    """(n, m) kernel: bias + lexical + weighted radial basis functions of the embeddings."""
    out = lexical_gram(left.lexical, right.lexical).astype(np.float64) + BIAS
    for weight, a, b in zip(weights, left.dense, right.dense, strict=True):
        out += weight * rbf_gram(a, b)
    return out


def _left_out(targets: Array, alpha: Array, inverse: Array, groups: Groups) -> Array:
    """Predictions for each row by the model without that row's group (dual form)."""
    out: Array = targets - alpha / np.diag(inverse)[:, None]
    for rows in _shared_groups(groups):
        out[rows] = targets[rows] - np.linalg.solve(inverse[np.ix_(rows, rows)], alpha[rows])
    return out


def _shared_groups(groups: Groups) -> list[npt.NDArray[np.intp]]:
    """Row numbers of every group that has more than one row."""
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    return [part for part in np.split(order, edges) if len(part) > 1]


class KernelRidge:
    """Scores near +1 for rows that carry a tag, near -1 for those that do not."""

    def __init__(self, ridge: float, weights: Sequence[float]) -> None:
        """`weights`: of the dense blocks, as `FeatureSpace.dense_weights` orders them."""
        self.ridge = ridge
        self.weights = tuple(weights)
        self._primal: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._offset: Array = np.zeros(0)
        self._dense: tuple[npt.NDArray[np.float32], ...] = ()
        self._alpha: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)

    def fit(
        self, features: Features, targets: Array, groups: Groups, seed: int, known: npt.NDArray[np.bool_] | None = None
    ) -> Array:
        """Fit on (n, t) targets of ±1; returns (n, t) scores, each by the model without the row's own group.

        `known` (n, t) says which targets somebody looked at, None: all. A tag is learned from its known rows alone;
        the scores of the others are 0. It costs an inversion for every distinct column of `known`.

        Raises:
            ValueError: `known` leaves rows out and there are more than `EXACT_ROWS` of them.
        """
        if known is not None and not known.all():
            return self._fit_known(features, targets, groups, known)
        if len(features) <= EXACT_ROWS:
            system = gram(features, features, self.weights)
            system[np.diag_indices_from(system)] += self.ridge
            inverse = linalg.inv(system, overwrite_a=True, check_finite=False)
            alpha = inverse @ targets
            self._keep(features, alpha)
            return _left_out(targets, alpha, inverse, groups)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(features))[:LANDMARKS])
        return self._fit_landmarks(features, features.take(chosen), targets, groups)

    def _fit_known(self, features: Features, targets: Array, groups: Groups, known: npt.NDArray[np.bool_]) -> Array:
        if len(features) > EXACT_ROWS:
            raise ValueError(f"{len(features)} rows: targets may be unknown up to {EXACT_ROWS} rows only")
        system = gram(features, features, self.weights)
        system[np.diag_indices_from(system)] += self.ridge
        alpha, out = np.zeros(targets.shape), np.zeros(targets.shape)
        patterns, which = np.unique(known, axis=1, return_inverse=True)
        for number in range(patterns.shape[1]):
            rows, columns = np.flatnonzero(patterns[:, number]), np.flatnonzero(which.ravel() == number)
            inverse = linalg.inv(system[np.ix_(rows, rows)], overwrite_a=True, check_finite=False)
            own = targets[np.ix_(rows, columns)]
            found = inverse @ own
            alpha[np.ix_(rows, columns)] = found
            out[np.ix_(rows, columns)] = _left_out(own, found, inverse, groups[rows])
        self._keep(features, alpha)
        return out

    def _fit_landmarks(self, features: Features, landmarks: Features, targets: Array, groups: Groups) -> Array:
        core = gram(landmarks, landmarks, self.weights)
        core[np.diag_indices_from(core)] += JITTER * np.trace(core) / len(core)
        lower = linalg.cholesky(core, lower=True, overwrite_a=True, check_finite=False)
        cross = gram(features, landmarks, self.weights)
        phi = linalg.solve_triangular(lower, cross.T, lower=True, check_finite=False).T
        normal = phi.T @ phi
        normal[np.diag_indices_from(normal)] += self.ridge
        root = linalg.cholesky(normal, lower=True, overwrite_a=True, check_finite=False)
        primal = linalg.cho_solve((root, True), phi.T @ targets, check_finite=False)
        half = linalg.solve_triangular(root, phi.T, lower=True, check_finite=False).T
        self._keep(landmarks, linalg.solve_triangular(lower.T, primal, lower=False, check_finite=False))
        residual = targets - phi @ primal
        out: Array = targets - residual / (1 - (half**2).sum(axis=1))[:, None]
        for rows in _shared_groups(groups):
            leverage = np.eye(len(rows)) - half[rows] @ half[rows].T
            out[rows] = targets[rows] - np.linalg.solve(leverage, residual[rows])
        return out

    def _keep(self, features: Features, alpha: Array) -> None:
        """The linear half of the kernel folds into one weight per feature; the radial half needs the rows."""
        self._primal = np.asarray(features.lexical.T @ alpha.astype(np.float32))
        self._offset = BIAS * alpha.sum(axis=0)
        self._dense = features.dense
        self._alpha = alpha.astype(np.float32)

    def predict(self, features: Features) -> Array:
        """(n, t) scores of new rows."""
        out = self.predict_lexical(features.lexical)
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            for weight, block, kept in zip(self.weights, features.dense, self._dense, strict=True):
                out[rows] += weight * (rbf_gram(block[rows], kept) @ self._alpha)
        return out

    def predict_lexical(self, lexical: sparse.csr_matrix) -> Array:
        """(n, t): the lexical half of the scores alone, good for ranking turns of one conversation."""
        return np.asarray(lexical @ self._primal, dtype=np.float64) + self._offset

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """All that `restore` needs."""
        kept: dict[str, npt.NDArray[np.generic]] = {
            "ridge": np.array(self.ridge),
            "weights": np.array(self.weights),
            "primal": self._primal,
            "offset": self._offset,
            "alpha": self._alpha,
        }
        return kept | {f"dense_{i}": block for i, block in enumerate(self._dense)}

    @classmethod
    def restore(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> KernelRidge:
        """The model that `state` described."""
        model = cls(float(arrays["ridge"].item()), [float(w) for w in arrays["weights"]])
        model._primal = arrays["primal"].astype(np.float32)
        model._offset = arrays["offset"].astype(np.float64)
        model._alpha = arrays["alpha"].astype(np.float32)
        model._dense = tuple(arrays[f"dense_{i}"].astype(np.float32) for i in range(len(model.weights)))
        return model


def choose(
    features: Features,
    targets: Array,
    groups: Groups,
    base: Sequence[float],
    candidates: Sequence[tuple[float, float]],
) -> tuple[float, tuple[float, ...]]:
    """(ridge, dense weights): of the candidates (ridge, factor on the row's own embedding) the one whose left-out
    squared error is lowest after the best single scaling; a squared-error criterion needs no threshold.

    The Gram matrices are computed once; each candidate costs one inversion of (n, n).
    """
    lexical = lexical_gram(features.lexical, features.lexical).astype(np.float64) + BIAS
    radial = [rbf_gram(block, block) for block in features.dense]
    best: tuple[float, float, tuple[float, ...]] | None = None
    for ridge, factor in candidates:
        weights = tuple(w * (factor if i == 0 else 1.0) for i, w in enumerate(base))
        system = lexical.copy()
        for weight, block in zip(weights, radial, strict=True):
            system += weight * block
        system[np.diag_indices_from(system)] += ridge
        inverse = linalg.inv(system, overwrite_a=True, check_finite=False)
        scores = _left_out(targets, inverse @ targets, inverse, groups)
        judged = groups >= 0
        error = float(((scores[judged] - targets[judged]) ** 2).mean())
        if best is None or error < best[0]:
            best = (error, ridge, weights)
    if best is None:
        raise ValueError("no candidates")
    return best[1], best[2]
