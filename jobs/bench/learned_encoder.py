"""Encoders for the development sets, each learned from the files of the other half alone."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.bench.induction_sets import InductionSet, turns_by_tag
from jobs.errors import InputError
from jobs.privacy.redact import redact
from jobs.settings import Settings
from jobs.student.contrast import STEPS, learn_encoder
from jobs.student.embed import Progress


def encoders_of_halves(
    rules: Mapping[str, InductionSet],
    data: Path,
    settings: Settings,
    *,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Name of a set → the encoder that has seen no turn of its source: it learned from the files of the other half.

    Raises:
        InputError: a set is of no half; see `learn_encoder`.
    """
    homeless = sorted(name for name, rule in rules.items() if rule.half is None)
    if homeless:
        raise InputError(f"config/induction-sets.yaml: {', '.join(homeless)}: say which half, a or b")
    done = {"a": 0, "b": 0}

    def learn(half: str) -> Path:
        files = {rule.file: rule for rule in rules.values() if rule.half != half}
        sets = [
            {tag: [redact(text)[0] for text in texts] for tag, texts in turns_by_tag(rule, data).items()}
            for rule in files.values()
        ]

        def report(steps_done: int, in_all: int) -> None:
            done[half] = steps_done
            if progress:
                progress(sum(done.values()), 2 * in_all)

        folder = settings.var_dir / "cache" / "encoders"
        return learn_encoder(sets, folder=folder, seed=settings.sample.seed, steps=steps, progress=report)

    with ThreadPoolExecutor(2) as workers:
        learned = dict(zip(done, workers.map(learn, done), strict=True))
    return {name: learned[rule.half or ""] for name, rule in rules.items()}
