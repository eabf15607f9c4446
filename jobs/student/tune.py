"""Tuned encoders: the sentence model learns the tags itself, in a process of the LLM environment that has PyTorch.

One net for each fold learns from all texts but the fold's, so that every text has scores by a net that has not seen it;
one more learns from all and is the one that is kept. What was learnt is kept by content: a run that was killed goes on
with the nets that are missing.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from jobs.errors import InputError
from jobs.settings import StudentSettings
from jobs.student.embed import Progress
from jobs.student.engines import TunedE5, base_model
from jobs.student.tune_worker import Job
from jobs.student.worker import MODEL, check_environment, key_of, prune_models, run_worker

KEPT = 3
"""Trainings whose nets stay on disk, those used last: some 90 MB a net, four nets a training."""
WORKER = Path(__file__).with_name("tune_worker.py")

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TunedNet:
    """An encoder (`model`: the bytes of an ONNX file) and its linear head, `weights` (t, d) and `bias` (t,)."""

    model: npt.NDArray[np.uint8]
    weights: FloatArray
    bias: FloatArray

    @cached_property
    def digest(self) -> str:
        """What names the encoder: SHA-256 of its file, shortened."""
        return hashlib.sha256(self.model.tobytes()).hexdigest()[:16]

    def engine(self, folder: Path) -> TunedE5:
        """Its encoder as an engine; the file is written to the folder where it is missing."""
        file = folder / f"tuned-{self.digest}.onnx"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as part:
                part.write(self.model.tobytes())
            Path(part.name).replace(file)
        return TunedE5(file)

    def forget(self, folder: Path) -> None:
        """Remove the file that `engine` wrote."""
        (folder / f"tuned-{self.digest}.onnx").unlink(missing_ok=True)


def folds_of(groups: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """(n,) fold of each row, a group's rows all in one; -1 for rows whose group is below 0.

    From 0 on, `count` of them or as many as there are groups; none is empty.
    """
    known = np.unique(groups[groups >= 0])
    order = np.random.default_rng(seed).permutation(len(known))
    fold = dict(zip(known[order].tolist(), (np.arange(len(known)) % count).tolist(), strict=True))
    return np.array([fold.get(group, -1) for group in groups.tolist()], dtype=np.int64)


def _run(folder: Path, told: Sequence[str], labels: FloatArray, job: Job, report: Progress) -> TunedNet:
    """One net, learnt or read from the folder where it lies already.

    Raises:
        InputError: the worker failed; the message ends with its words.
    """
    if not (folder / MODEL).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "labels.npy", labels)
        run_worker(WORKER, folder, job=asdict(job), texts=list(told), report=report)
    folder.touch()
    with np.load(folder / "head.npz", allow_pickle=False) as head:
        return TunedNet(np.fromfile(folder / MODEL, np.uint8), head["weights"], head["bias"])


def _prune(folder: Path, nets: int) -> None:
    """Remove what trainings long ago left; a student whose encoder's file is gone writes it anew (`engine`)."""
    prune_models(folder, KEPT * nets)
    for file in sorted(folder.glob("tuned-*.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)[KEPT:]:
        file.unlink()


def tune(
    texts: Sequence[str],
    labels: Bools,
    folds: npt.NDArray[np.int64],
    *,
    settings: StudentSettings,
    folder: Path,
    progress: Progress | None,
) -> tuple[TunedNet, list[TunedNet]]:
    """(a net from all texts, a net for each fold from the texts of all others); `threads` of them learn at once.

    Args:
        texts: what is said, redacted.
        labels: (n, t).
        folds: (n,) of `folds_of`.
        settings: seed, epochs and threads.
        folder: where nets are kept by content.
        progress: called with (steps done, steps in all).

    Raises:
        InputError: the LLM environment is missing, a worker failed, or without some fold there are no texts.
    """
    check_environment("student.tune")
    exclusive = labels.shape[1] > 1 and bool((labels.sum(axis=1) == 1).all())
    job = Job(
        base=str(base_model()),
        epochs=settings.tune_epochs,
        batch=16,
        rate=1e-4,
        head_factor=20.0,
        seed=settings.seed,
        threads=1,
        exclusive=exclusive,
    )
    # No text is in the fold after the last: that net learns from all of them.
    told = [np.flatnonzero(folds != fold) for fold in range(int(folds.max()) + 2)]
    if not all(map(len, told)):
        raise InputError("student.tune: all labelled conversations say the same; label more conversations")
    steps = [job.epochs * -(-len(rows) // job.batch) for rows in told]
    done = dict.fromkeys(range(len(told)), 0)
    lock = Lock()

    def learn(number: int) -> TunedNet:
        rows = told[number]
        said, wanted = [texts[i] for i in rows.tolist()], labels[rows].astype(np.float32)

        def report(so_far: int, _: int) -> None:
            with lock:
                done[number] = so_far
                if progress:
                    progress(sum(done.values()), sum(steps))

        net = _run(folder / key_of(WORKER, asdict(job), said, wanted.tobytes()), said, wanted, job, report)
        report(steps[number], steps[number])
        return net

    with ThreadPoolExecutor(max(1, settings.threads)) as workers:
        # The longest first, or at two folds a worker would wait for it alone at the end.
        whole, *of_folds = workers.map(learn, [len(told) - 1, *range(len(told) - 1)])
    _prune(folder, len(told))
    return whole, of_folds
