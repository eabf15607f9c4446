"""`evaluate`: learn from TRAIN, tag TEST without its labels, write the predictions, and only then look and score."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from jobs.conversation import Conversation, read_conversations
from jobs.errors import InputError
from jobs.evaluation.baseline import baseline
from jobs.evaluation.folder import made
from jobs.evaluation.job import Job
from jobs.evaluation.progress import Bars
from jobs.metrics import Figures, micro_intervals, score_matrix
from jobs.privacy.redact import redact_conversation
from jobs.settings import Settings
from jobs.student.model import Student
from jobs.student.training import StageProgress, gold_matrix
from jobs.students import embedder_of
from jobs.taxonomy import Taxonomy, load_taxonomy

Labeller = Literal["student", "llm", "cascade", "baseline", "baseline-both"]
Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SCORES, PREDICTIONS = "scores.json", "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """(n, t) probabilities and decisions, requests sent, and what else the labeller has to say."""

    probabilities: Array
    decisions: Bools
    requests: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


def _tags(train: Sequence[Conversation], taxonomy: Taxonomy | None) -> tuple[str, ...]:
    """The taxonomy's ids in its order, or the labels seen in TRAIN, sorted."""
    seen = {label for c in train for label in c.labels or ()}
    if not seen:
        raise InputError("TRAIN holds no labels: its lines need `labels`, and some of them must not be empty")
    if taxonomy is None:
        return tuple(sorted(seen))
    if not seen & set(taxonomy.tag_ids):
        known, met = ", ".join(taxonomy.tag_ids[:5]), ", ".join(sorted(seen)[:5])
        raise InputError(f"no label of TRAIN ({met}, …) is a tag id of the taxonomy ({known}, …); leave --taxonomy out")
    return taxonomy.tag_ids


def _student(job: Job) -> _Outcome:
    student = Student.fit(
        job.train,
        job.tags,
        taxonomy=job.taxonomy,
        settings=job.settings.student,
        embedder=job.embedder,
        progress=job.progress,
    )
    found = student.predict(job.test, job.progress)
    return _Outcome(found.probabilities, found.decisions, notes={"untrained": list(student.untrained)})


def _label(labeller: Labeller, job: Job) -> _Outcome:
    if labeller == "student":
        return _student(job)
    if labeller in ("baseline", "baseline-both"):
        embedder = job.embedder if labeller == "baseline-both" else None
        return _Outcome(*baseline(job.train, job.test, job.tags, job.settings.student.seed, embedder))
    from jobs.evaluation.llm import cascade, llm_alone

    if labeller == "llm":
        answers = llm_alone(job)
        silent = int((~answers.answered).sum())
        return _Outcome(answers.probabilities, answers.decisions, answers.requests, {"llm_unanswered": silent})
    both = cascade(job)
    notes = {
        "llm_conversations": both.asked,
        "llm_unanswered": both.unanswered,
        "llm_trust": [asdict(entry) for entry in both.trust],
        "promises": [asdict(entry) for entry in both.promises],
        "costs": [asdict(point) for point in both.costs],
    }
    return _Outcome(both.probabilities, both.decisions, both.requests, notes)


def _write_predictions(path: Path, test: Sequence[Conversation], tags: Sequence[str], outcome: _Outcome) -> None:
    """One line a conversation: its labels, and for each of them the confidence in [0, 1]."""
    with path.open("w", encoding="utf-8") as out:
        for row, conversation in enumerate(test):
            chosen = np.flatnonzero(outcome.decisions[row]).tolist()
            line = {
                "conversation_id": conversation.conversation_id,
                "labels": [tags[i] for i in chosen],
                "confidence": {tags[i]: round(float(outcome.probabilities[row, i]), 4) for i in chosen},
            }
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def scores_of(
    test: Sequence[Conversation], tags: Sequence[str], decisions: Bools, taxonomy: Taxonomy | None, confidence: float
) -> dict[str, Any]:
    """Figures on the conversations of TEST that carry labels; without a taxonomy, labels that only TEST holds are tags
    too, with recall 0; with one, labels outside it are counted but not scored."""
    rows = [i for i, c in enumerate(test) if c.labels is not None]
    if not rows:
        return {}
    scored = [test[i] for i in rows]
    strange = sorted({label for c in scored for label in c.labels or ()} - set(tags))
    columns = [*tags, *strange] if taxonomy is None else list(tags)
    gold = gold_matrix(scored, columns)
    said = np.zeros(gold.shape, dtype=np.bool_)
    said[:, : len(tags)] = decisions[rows]
    found = score_matrix(gold, said, columns, confidence)

    def three(figures: Figures) -> dict[str, float]:
        return {"precision": figures.precision, "recall": figures.recall, "f1": figures.f1}

    return {
        "micro": three(found.micro),
        "macro": three(found.macro),
        "tags": {tag: asdict(entry) for tag, entry in found.tags.items()},
        "micro_intervals": asdict(micro_intervals(gold, said, confidence=confidence)),
        "scored": len(rows),
        "labels_only_in_test" if taxonomy is None else "labels_outside_taxonomy": strange,
    }


def job_of(train: Path, test: Path, taxonomy: Path | None, settings: Settings, progress: StageProgress) -> Job:
    """What labellers are handed: redacted, and TEST without its labels.

    Raises:
        InputError: a file cannot be used, TRAIN holds no labels, or none that the taxonomy has.
    """
    tree = load_taxonomy(taxonomy) if taxonomy else None
    known = [redact_conversation(c) for c in read_conversations(train)]
    unseen = [replace(redact_conversation(c), labels=None, turn_labels=None) for c in read_conversations(test)]
    embedder = embedder_of(settings)
    return Job(known, unseen, _tags(known, tree), tree, settings, embedder, progress)


def _seen(job: Job) -> int:
    """How many conversations of TEST stand in labelled TRAIN word for word: their tags may be known by heart."""
    learned = {c.content_hash for c in job.train if c.labels is not None}
    return sum(c.content_hash in learned for c in job.test)


def evaluate(
    train: Path, test: Path, *, taxonomy: Path | None, labeller: str, out: Path, settings: Settings
) -> dict[str, Any]:
    """Learn from TRAIN, tag TEST, write `predictions.jsonl` and, where TEST carries labels, `scores.json` under `out`.

    TEST's labels are taken off before anything else sees the conversations and are read again from the file once the
    predictions are written. Returns what `scores.json` holds (without figures where there is no gold, and then no
    such file is left in `out`). `seconds` is wall clock, reading and scoring included; `seen_in_train`: see `_seen`.

    Raises:
        InputError: a file cannot be used, `labeller` is unknown, TRAIN holds no labels, or none that the taxonomy has,
            or `out` cannot be written.
        ServerError: the LLM was wanted and is not up.
    """
    began = time.monotonic()
    chosen: Labeller | None = next((name for name in get_args(Labeller) if name == labeller), None)
    if chosen is None:
        raise InputError(f"--labeller {labeller}: choose one of {', '.join(get_args(Labeller))}")
    made(out)
    with Bars() as bars:
        job = job_of(train, test, taxonomy, settings, bars)
        outcome = _label(chosen, job)
    try:
        (out / SCORES).unlink(missing_ok=True)
        _write_predictions(out / PREDICTIONS, job.test, job.tags, outcome)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error
    found = scores_of(read_conversations(test), job.tags, outcome.decisions, job.taxonomy, settings.gate.confidence)
    result = found | {
        "conversations": len(job.test),
        "seen_in_train": _seen(job),
        "seconds": round(time.monotonic() - began, 2),
        "llm_requests": outcome.requests,
        "labeller": chosen,
        **outcome.notes,
    }
    if found:
        (out / SCORES).write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return result
