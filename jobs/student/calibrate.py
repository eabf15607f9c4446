"""Scores to probabilities, probabilities to decisions.

Platt scaling (Platt 1999, "Probabilistic outputs for support vector machines") with one slope per view shared by all
tags and an offset per tag that is pulled to a common one: rare tags borrow strength. Where every conversation has at
most one tag the same scores go through a softmax (multinomial logistic regression) instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OFFSET_RIDGE = 2.0
SLOPE_RIDGE = 1e-3
LOW, HIGH = 0.15, 0.85
PRIOR_POSITIVES = 100.0


@dataclass(frozen=True)
class Calibrator:
    """`slopes` (v,), `offsets` (t,); `exclusive`: softmax over tags instead of one sigmoid a tag."""

    slopes: Array
    offsets: Array
    exclusive: bool

    def probabilities(self, views: Array) -> Array:
        """(n, t) probabilities from (v, n, t) scores."""
        logits = np.tensordot(self.slopes, views, axes=1) + self.offsets
        if self.exclusive:
            return np.asarray(np.exp(logits - logsumexp(logits, axis=1, keepdims=True)))
        return np.asarray(expit(logits))


def fit_calibrator(views: Array, gold: Bools, exclusive: bool) -> Calibrator:
    """Fit on (v, n, t) left-out scores and (n, t) gold; penalised maximum likelihood, deterministic."""
    n_views, _, n_tags = views.shape
    truth = gold.astype(np.float64)

    def loss(parameters: Array) -> tuple[float, Array]:
        slopes, common, own = parameters[:n_views], parameters[n_views], parameters[n_views + 1 :]
        logits = np.tensordot(slopes, views, axes=1) + common + own
        if exclusive:
            total = logsumexp(logits, axis=1, keepdims=True)
            value = float((total[:, 0] - (truth * logits).sum(axis=1)).sum())
            slack = np.exp(logits - total) - truth
        else:
            value = float((np.logaddexp(0.0, logits) - truth * logits).sum())
            slack = expit(logits) - truth
        value += 0.5 * OFFSET_RIDGE * float(own @ own) + 0.5 * SLOPE_RIDGE * float(slopes @ slopes)
        gradient = np.concatenate(
            [
                np.tensordot(views, slack, axes=2) + SLOPE_RIDGE * slopes,
                [slack.sum()],
                slack.sum(axis=0) + OFFSET_RIDGE * own,
            ]
        )
        return value, gradient

    start = np.concatenate([np.full(n_views, 3.0 / n_views), np.zeros(n_tags + 1)])
    bounds: list[tuple[float | None, float | None]] = [(0.0, None)] * n_views + [(None, None)] * (n_tags + 1)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
    found: Array = np.asarray(result.x, dtype=np.float64)
    return Calibrator(found[:n_views], found[n_views] + found[n_views + 1 :], exclusive)


def _best_threshold(probabilities: Array, gold: Bools) -> float:
    """The middle of the stretch of thresholds whose F1 is within 0.2 points of the best, between LOW and HIGH."""
    grid = np.linspace(LOW, HIGH, 71)
    flat, truth = probabilities.ravel(), gold.ravel()
    order = np.argsort(flat, kind="stable")
    hits = np.concatenate([[0], np.cumsum(truth[order][::-1])])
    kept = len(flat) - np.searchsorted(flat[order], grid, side="left")
    f1 = 2 * hits[kept] / np.maximum(kept + truth.sum(), 1)
    return float(np.mean(grid[f1 >= f1.max() - 0.002]))


def choose_thresholds(probabilities: Array, gold: Bools) -> Array:
    """(t,) thresholds for F1: a tag's own best, pulled to the best global one by `PRIOR_POSITIVES` virtual positives.

    Thresholds tuned tag by tag on little data lose more than they win.
    """
    common = _best_threshold(probabilities, gold)
    out = np.full(gold.shape[1], common)
    for tag in range(gold.shape[1]):
        positives = int(gold[:, tag].sum())
        if positives >= 10:
            share = positives / (positives + PRIOR_POSITIVES)
            own = _best_threshold(probabilities[:, tag : tag + 1], gold[:, tag : tag + 1])
            out[tag] += share * (own - common)
    return out
