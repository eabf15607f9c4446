"""An encoder that learned from labelled turns which turns are one wish: for grouping turns that nobody has labelled.

What makes two turns one wish carries over from one business to another (docs/experiments-induction.md has how far).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from jobs.errors import InputError
from jobs.student.contrast_worker import ContrastJob
from jobs.student.embed import Progress, clean
from jobs.student.engines import base_model
from jobs.student.worker import MODEL, check_environment, key_of, prune_models, run_worker

WORKER = Path(__file__).with_name("contrast_worker.py")
FEWEST = 4
"""A tag with fewer different texts teaches nothing and is left out."""
STEPS = 300
KEPT = 4
"""Encoders that stay on disk, those used last: some 90 MB each."""

Tags = Mapping[str, Sequence[str]]
"""Tag → texts of turns that have it, redacted."""


def worth_learning(tags: Tags) -> list[list[str]]:
    """The different texts of each tag, in order of the alphabet; tags with too few of them left out."""
    texts = [sorted({clean(text) for text in tags[tag]}) for tag in sorted(tags)]
    return [one for one in texts if len(one) >= FEWEST]


def learn_encoder(
    sets: Sequence[Tags], *, folder: Path, seed: int, steps: int = STEPS, progress: Progress | None = None
) -> Path:
    """Learn from several sets of labelled turns, on one core; what was learnt before from the same is not learnt again.

    Args:
        sets: labelled turns; a turn is compared with turns of its own set alone.
        folder: where encoders are kept by content.
        seed: of the draws.
        steps: batches of some 48 turns.
        progress: called with (steps done, steps in all).

    Returns:
        The encoder's file, for `TunedE5`.

    Raises:
        InputError: no set has two tags worth learning, the LLM environment is missing, or learning failed.
    """
    texts = [found for tags in sets if len(found := worth_learning(tags)) > 1]
    if not texts:
        raise InputError(f"nothing to learn from: no file has two tags with at least {FEWEST} different turns each")
    check_environment("learning an encoder")
    job = ContrastJob(
        base=str(base_model()), steps=steps, tags=16, texts=3, rate=3e-5, temperature=0.05, seed=seed, threads=1
    )
    learnt = folder / key_of(WORKER, asdict(job), texts)
    if not (learnt / MODEL).is_file():
        run_worker(WORKER, learnt, job=asdict(job), texts=texts, report=progress or (lambda done, steps: None))
    learnt.touch()
    prune_models(folder, KEPT)
    return learnt / MODEL
