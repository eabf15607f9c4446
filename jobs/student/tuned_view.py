"""A third view of a conversation: the customer's words as an encoder tuned on these very tags reads them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from jobs.conversation import Conversation
from jobs.settings import StudentSettings
from jobs.student.embed import Embedder, Progress, clean
from jobs.student.features import Row
from jobs.student.tune import TunedNet, folds_of, tune
from jobs.student.views import Examples

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LIMIT = 8.0
SCALE = 4.0
"""Log-odds are bounded and divided: of the size of the kernel views' scores, which pooling and calibration expect."""
KIND = "tuned"


@cache
def _scratch() -> Path:
    """A folder of this process, for embedders that keep nothing."""
    folder = Path(tempfile.mkdtemp(prefix="dongcha-tuned-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _folder(embedder: Embedder) -> Path:
    return (embedder.folder or _scratch()) / "tuned"


class TunedView:
    """A net that learned from all rows; calibrated by nets that did not (as scikit-learn's `CalibratedClassifierCV`
    with `ensemble=False`)."""

    def __init__(self, net: TunedNet, *, by_turn: bool, exclusive: bool) -> None:
        self.net = net
        self.by_turn = by_turn
        self.exclusive = exclusive

    @classmethod
    def fit(
        cls,
        rows: Sequence[Row],
        labels: Bools,
        examples: Examples,
        *,
        by_turn: bool,
        contents: npt.NDArray[np.int64],
        embedder: Embedder,
        settings: StudentSettings,
        progress: Progress | None,
    ) -> tuple[TunedView, Array]:
        """Fit on rows with (n, t) labels; also the (n, t) scores of the rows, each by the net without its fold.

        `contents`: as of `View.fit`, for the folds.

        Raises:
            InputError: see `tune`.
        """
        texts = [*(row.texts[0] for row in rows), *(clean(text) for text in examples.texts)]
        groups = np.array([*(contents[row.owner] for row in rows), *(-1 for _ in examples.texts)], dtype=np.int64)
        folds = folds_of(groups, settings.tune_folds, settings.seed)
        wanted = np.vstack([labels, examples.tags])
        net, of_folds = tune(texts, wanted, folds, settings=settings, folder=_folder(embedder), progress=progress)
        view = cls(net, by_turn=by_turn, exclusive=labels.shape[1] > 1 and bool((wanted.sum(axis=1) == 1).all()))
        scores = np.zeros(labels.shape)
        for fold, other in enumerate(of_folds):
            mine = np.flatnonzero(folds[: len(rows)] == fold)
            scores[mine] = view._scores(other, [texts[i] for i in mine.tolist()], embedder, None)
            other.forget(_folder(embedder))
        return view, scores

    def rows(self, conversations: Sequence[Conversation]) -> list[Row]:
        """The customer's words alone: a row a conversation, or a turn; `owner` is the place in `conversations`."""
        if not self.by_turn:
            return [Row(i, -1, (clean(c.customer_text),)) for i, c in enumerate(conversations)]
        return [Row(i, n, (clean(text),)) for i, c in enumerate(conversations) for n, text in c.customer_turns]

    def row_scores(self, rows: Sequence[Row], embedder: Embedder, progress: Progress | None) -> Array:
        """(rows, t) scores."""
        return self._scores(self.net, [row.texts[0] for row in rows], embedder, progress)

    def _scores(self, net: TunedNet, texts: Sequence[str], embedder: Embedder, progress: Progress | None) -> Array:
        if not texts:
            return np.zeros((0, len(net.bias)))
        vectors = embedder.beside(net.engine(_folder(embedder))).embed(texts, progress)
        logits = np.asarray(vectors @ net.weights.T + net.bias, dtype=np.float64)
        if self.exclusive:
            logits -= logsumexp(logits, axis=1, keepdims=True)
        return np.clip(logits, -LIMIT, LIMIT) / SCALE

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """(JSON-able part, arrays)."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "model": self.net.model,
            "weights": self.net.weights,
            "bias": self.net.bias,
        }
        return {"kind": KIND, "by_turn": self.by_turn, "exclusive": self.exclusive}, arrays

    @classmethod
    def restore(cls, meta: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> TunedView:
        """The view that `state` described."""
        net = TunedNet(arrays["model"], arrays["weights"], arrays["bias"])
        return cls(net, by_turn=bool(meta["by_turn"]), exclusive=bool(meta["exclusive"]))
