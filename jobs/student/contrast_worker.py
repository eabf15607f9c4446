"""Teach the sentence encoder which turns are one wish. Run by the LLM environment's Python, which alone has PyTorch.

    python contrast_worker.py FOLDER

FOLDER holds `job.json` (see `ContrastJob`); standard input is sets of tags of texts, as nested lists in JSON. Written
to FOLDER: `model.onnx`, the encoder.

Supervised contrastive learning (Khosla et al. 2020, arXiv:2004.11362, equation 2): a text is drawn to those of its
tag and pushed from those of other tags. A batch is of one set, since what two sets call by different names may be one
wish; sets come up by the square root of their size, tags of a set alike.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jobs.student.e5_file import read_e5
from jobs.student.torch_encoder import Descent, TorchEncoder

TOKENS = 64
"""A turn that is longer is cut: what somebody wants is rarely said after forty words."""
COUNTED = 60
"""Texts of a tag beyond these do not make its set come up more often."""

TOGETHER = 12

Rows = list[list[int]]


@dataclass(frozen=True, slots=True)
class ContrastJob:
    """A batch: `tags` tags of one set with `texts` texts each, more where the set has fewer tags."""

    base: str
    steps: int
    tags: int
    texts: int
    rate: float
    temperature: float
    seed: int
    threads: int


def draw_batch(tags: list[Rows], job: ContrastJob, random: np.random.Generator) -> tuple[Rows, list[int]]:
    """Texts of one batch as numbers of their pieces, and the tag of each."""
    chosen = random.permutation(len(tags))[: job.tags].tolist()
    wanted = max(job.texts, job.tags * job.texts // len(chosen))
    rows: Rows = []
    tag_of: list[int] = []
    for tag in chosen:
        for place in random.permutation(len(tags[tag]))[:wanted].tolist():
            rows.append(tags[tag][place])
            tag_of.append(tag)
    return rows, tag_of


def vectors(encoder: TorchEncoder, rows: Rows) -> Any:
    """(rows, d) unit vectors; texts of like length go through the encoder together, or most of it would be padding."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    parts = [order[i : i + TOGETHER].tolist() for i in range(0, len(order), TOGETHER)]
    found = encoder.torch.cat([encoder.vectors([rows[place] for place in part]) for part in parts])
    return found[np.argsort(order, kind="stable").tolist()]


def contrast(torch: Any, vectors: Any, tag_of: list[int], temperature: float) -> Any:
    """The loss of unit vectors (n, d): for each text, minus the mean log-probability of the others of its tag."""
    itself = torch.eye(len(tag_of), dtype=torch.bool)
    tags = torch.tensor(tag_of)
    alike = (tags[:, None] == tags[None, :]) & ~itself
    chances = torch.log_softmax((vectors @ vectors.T / temperature).masked_fill(itself, -1e9), dim=1)
    some = alike.any(dim=1)
    return -((chances * alike).sum(dim=1)[some] / alike.sum(dim=1)[some]).mean()


def main(folder: Path) -> None:
    """Do the job that lies in the folder."""
    job = ContrastJob(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    texts: list[list[list[str]]] = json.load(sys.stdin.buffer)
    file = read_e5(Path(job.base))
    sets = [[file.token_rows(tag, TOKENS) for tag in one] for one in texts]
    sizes = np.sqrt([sum(min(len(tag), COUNTED) for tag in one) for one in sets])
    encoder = TorchEncoder(file, threads=job.threads, seed=job.seed)
    random = np.random.default_rng(job.seed)
    descent = Descent(encoder, [{"params": list(encoder.model.parameters()), "lr": job.rate}], job.steps)
    encoder.model.train()
    for _ in range(job.steps):
        rows, tag_of = draw_batch(sets[random.choice(len(sets), p=sizes / sizes.sum())], job, random)
        descent.step(contrast(encoder.torch, vectors(encoder, rows), tag_of, job.temperature))
    encoder.export(folder / "model.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
