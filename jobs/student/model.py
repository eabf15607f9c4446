"""The student: kernel machines over a conversation and over its turns, stacked and calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.conversation import Conversation
from jobs.settings import StudentSettings
from jobs.student import store
from jobs.student.calibrate import Calibrator, choose_thresholds, fit_calibrator
from jobs.student.embed import Embedder
from jobs.student.features import CONVERSATION_SLOTS, plain_row
from jobs.student.lessons import Lesson
from jobs.student.material import material
from jobs.student.training import AnyView, StageProgress, fit_views, gold_matrix, training_key, view_scores, with_none
from jobs.student.tuned_view import KIND as TUNED
from jobs.student.tuned_view import TunedView
from jobs.student.views import Examples, View, taxonomy_examples
from jobs.taxonomy import Taxonomy

BATCH = 1_000

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StudentPrediction:
    """n conversations × t tags, in the order given to `predict` and of `tags`.

    `probabilities` float64 (n, t) calibrated; `decisions` bool (n, t); `evidence` int64 (n, t): number of the turn
    (from 0) that speaks most for a decided tag, -1 where the tag is not decided.
    """

    conversation_ids: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: Array
    decisions: Bools
    evidence: npt.NDArray[np.int64]


class Student:
    """Learns tags from labelled conversations; see `fit`."""

    def __init__(
        self,
        *,
        tags: tuple[str, ...],
        learnt: npt.NDArray[np.intp],
        views: list[AnyView],
        calibrator: Calibrator,
        thresholds: Array,
        key: str,
        none_column: bool,
        left_out: dict[str, Array],
        embedder: Embedder,
    ) -> None:
        self.tags = tags
        self.key = key
        self._learnt = learnt
        self._views = views
        if not isinstance(views[0], View):
            raise TypeError("the first view is that of whole conversations")
        self._whole = views[0]
        self._calibrator = calibrator
        self._thresholds = thresholds
        self._none_column = none_column
        self._left_out = left_out
        self._embedder = embedder

    @property
    def untrained(self) -> tuple[str, ...]:
        """Tags with fewer than two training conversations: never predicted."""
        known = set(self._learnt.tolist())
        return tuple(tag for i, tag in enumerate(self.tags) if i not in known)

    @property
    def exclusive(self) -> bool:
        """Whether training data had at most one tag a conversation, so that at most one is predicted: the likeliest.

        Where some of the training data had none, it must have a probability of 0.5, near the best cut for F1 (half of
        the F1 reached: Lipton, Elkan & Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1").
        """
        return self._calibrator.exclusive

    @property
    def thresholds(self) -> Array:
        """(t,) decision thresholds on the probability; 1 for tags that are never predicted."""
        out = np.ones(len(self.tags))
        out[self._learnt] = 0.5 if self.exclusive else self._thresholds
        return out

    @classmethod
    def fit(
        cls,
        train: Sequence[Conversation],
        tags: Sequence[str],
        *,
        taxonomy: Taxonomy | None,
        settings: StudentSettings,
        calibration: Sequence[Conversation] | None = None,
        embedder: Embedder | None = None,
        progress: StageProgress | None = None,
        lessons: Sequence[Lesson] = (),
    ) -> Student:
        """Learn `tags` from the conversations of `train` that have labels (None: nobody looked; empty: no tag).

        Where conversations say which turns carry their labels, a second view learns single turns. Probabilities and
        thresholds come from left-out predictions of `train`, together with predictions of `calibration` if given.
        `lessons`, labels by an LLM, are learned from but calibrate nothing.
        Deterministic for the same data, settings, versions and number of threads.

        Raises:
            InputError: no labelled conversation, no customer turn, or no tag with two examples.
        """
        held = [c for c in calibration or () if c.labels is not None]
        found = material(train, tags)
        labelled, gold, learnt = found.labelled, found.gold, found.learnt
        exclusive, none_column = found.exclusive, found.none_column
        names = [tags[i] for i in learnt.tolist()]
        embedder = embedder or Embedder(threads=settings.threads)
        examples = taxonomy_examples(taxonomy, names, {c.conversation_id for c in labelled})
        if none_column:
            gold = with_none(gold)
            examples = Examples(examples.texts, with_none(examples.tags))
            names = [*names, ""]
        views, scores = fit_views(
            labelled, gold, names, examples, settings=settings, embedder=embedder, progress=progress, lessons=lessons
        )
        truth = gold
        if held:
            held_gold = gold_matrix(held, [tags[i] for i in learnt.tolist()])
            truth = np.vstack([gold, with_none(held_gold) if none_column else held_gold])
            scores = np.concatenate([scores, view_scores(views, held, embedder, None)[0]], axis=1)
        calibrator = fit_calibrator(scores, truth, exclusive)
        honest = calibrator.probabilities(scores)
        thresholds = choose_thresholds(honest, truth)[: len(learnt)]
        return cls(
            tags=tuple(tags),
            learnt=learnt,
            views=views,
            calibrator=calibrator,
            thresholds=thresholds,
            key=training_key(labelled, held, tags, taxonomy, settings, embedding_model=embedder.name, lessons=lessons),
            none_column=none_column,
            left_out={c.content_hash: row for c, row in zip(labelled, honest, strict=False)},
            embedder=embedder,
        )

    def predict(
        self,
        conversations: Sequence[Conversation],
        progress: StageProgress | None = None,
        *,
        left_out: bool = False,
    ) -> StudentPrediction:
        """Tags of conversations, whose labels are not looked at; one whose customer says nothing gets none.

        With `left_out`, a conversation of the training data (by content) is tagged by the model that has not seen it:
        such predictions may be compared with gold, so that no gold needs to be kept from training for that.
        """
        shape = (len(conversations), len(self.tags))
        probabilities = np.zeros(shape)
        decisions = np.zeros(shape, dtype=np.bool_)
        evidence = np.full(shape, -1, dtype=np.int64)
        for start in range(0, len(conversations), BATCH):
            part = conversations[start : start + BATCH]
            found, decided, turns = self._predict_batch(part, left_out)
            rows = slice(start, start + len(part))
            probabilities[rows, self._learnt] = found
            decisions[rows, self._learnt] = decided
            evidence[rows, self._learnt] = turns
            if progress:
                progress("predict", start + len(part), len(conversations))
        ids = tuple(c.conversation_id for c in conversations)
        return StudentPrediction(ids, self.tags, probabilities, decisions, evidence)

    def _predict_batch(
        self, part: Sequence[Conversation], left_out: bool
    ) -> tuple[Array, Bools, npt.NDArray[np.int64]]:
        scores, per_turn = view_scores(self._views, part, self._embedder, None)
        found = self._calibrator.probabilities(scores)
        for row, conversation in enumerate(part if left_out else ()):
            found[row] = self._left_out.get(conversation.content_hash, found[row])
        if self.exclusive:
            # "No tag" is wider than what TRAIN shows of it: the best tag must be likelier than everything else.
            decided = (found == found.max(axis=1, keepdims=True)) & (found >= 0.5 * self._none_column)
        else:
            decided = found >= self._thresholds
        count = len(self._learnt)
        found, decided = found[:, :count], decided[:, :count]
        silent = np.array([not c.customer_text.strip() for c in part])
        found[silent], decided[silent] = 0.0, False
        return found, decided, self._evidence(part, decided, per_turn)

    def _evidence(
        self, part: Sequence[Conversation], decided: Bools, per_turn: dict[int, tuple[list[int], Array]]
    ) -> npt.NDArray[np.int64]:
        """(n, t): by the turn view where there is one, else by each turn's words in the conversation view."""
        out = np.full(decided.shape, -1, dtype=np.int64)
        for row in np.flatnonzero(decided.any(axis=1)).tolist():
            spoken = [(number, text) for number, text in part[row].customer_turns if text.strip()]
            numbers = [number for number, _ in spoken]
            if len(numbers) == 1:
                out[row, decided[row]] = numbers[0]
                continue
            if row in per_turn:
                numbers, values = per_turn[row]
            else:
                rows = [plain_row(text, CONVERSATION_SLOTS) for _, text in spoken]
                view = self._whole
                values = view.machine.predict_lexical(view.space.lexical_only(rows))
            best = np.array(numbers)[values.argmax(axis=0)]
            out[row, decided[row]] = best[: decided.shape[1]][decided[row]]
        return out

    def save(self, folder: Path) -> None:
        """Write the model into a folder: JSON and NumPy arrays, no pickles, and a manifest of hashes."""
        metas, arrays = [], {}
        for number, view in enumerate(self._views):
            meta, kept = view.state()
            metas.append(meta)
            arrays.update({f"{number}/{name}": value for name, value in kept.items()})
        arrays |= {"learnt": self._learnt, "thresholds": self._thresholds}
        rows = list(self._left_out.values())
        arrays |= {"left_out": np.array(rows).reshape(len(rows), len(self._calibrator.offsets))}
        arrays |= {"slopes": self._calibrator.slopes, "offsets": self._calibrator.offsets}
        document = {
            "version": store.CODE_VERSION,
            "key": self.key,
            "tags": list(self.tags),
            "exclusive": self.exclusive,
            "none_column": self._none_column,
            "embedding_model": self._embedder.name,
            "left_out": list(self._left_out),
            "views": metas,
        }
        store.write(folder, document, arrays)

    @classmethod
    def load(cls, folder: Path, embedder: Embedder | None = None) -> Student:
        """Read what `save` wrote.

        Raises:
            InputError: files are missing or changed, or were made by other code or with another embedding model.
        """
        document, arrays = store.read(folder)
        embedder = embedder or Embedder()
        store.check_embeddings(folder, document["embedding_model"], embedder.name)
        views: list[AnyView] = []
        for number, meta in enumerate(document["views"]):
            prefix = f"{number}/"
            own = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
            views.append((TunedView if meta.get("kind") == TUNED else View).restore(meta, own))
        return cls(
            tags=tuple(document["tags"]),
            learnt=arrays["learnt"],
            views=views,
            calibrator=Calibrator(arrays["slopes"], arrays["offsets"], bool(document["exclusive"])),
            thresholds=arrays["thresholds"],
            key=str(document["key"]),
            none_column=bool(document["none_column"]),
            left_out=dict(zip(document["left_out"], arrays["left_out"], strict=True)),
            embedder=embedder,
        )
