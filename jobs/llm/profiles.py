"""Serving profiles: which model, from where, with which vLLM flags (`models/serving/*.yaml`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import InputError
from jobs.settings import PROJECT, Settings

PROFILES = PROJECT / "models" / "serving"

Flag = str | int | float | bool | dict[str, str | int | float | bool]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GgufWeights(_Part):
    """Weights that a Python package of the server's environment carries as one GGUF file; converted once."""

    package: str
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    converted: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]


class Prices(_Part):
    """What a million tokens cost, in `currency`; for estimates in the report, never for decisions."""

    currency: str = "CNY"
    input: float = 0.0
    cached_input: float = 0.0
    output: float = 0.0


class ServingProfile(_Part):
    """One way to have an LLM answer. `managed` profiles start vLLM themselves, the others only talk to `base_url`.

    `replicas` are the addresses of further servers of the same model; whoever runs them starts them.

    `context_length` and `max_output_tokens` are tokens; `tokens_per_wide_char` estimates what a Chinese character
    costs this model's tokenizer; `flags` are passed to `vllm serve` (true: the bare flag, an object: JSON);
    `api_key_env` names the environment variable that holds the key; `gpus` is how many each
    server of it occupies: without a word none for a managed profile, and nobody knows how many for another.
    """

    name: str
    description: str
    managed: bool = True
    model: str
    served_model_name: str
    weights: GgufWeights | None = None
    command: tuple[str, ...] = ("vllm", "serve")
    flags: dict[str, Flag] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    base_url: str | None = None
    replicas: tuple[str, ...] = ()
    api_key_env: str = "DONGCHA_LLM_API_KEY"
    structured: Literal["structured_outputs", "response_format"] = "structured_outputs"
    extra_body: dict[str, str | int | float | bool | dict[str, str | int | float | bool]] = Field(default_factory=dict)
    logprobs: bool = True
    quotes: Literal["copy", "choose"] = "copy"
    context_length: Annotated[int, Field(gt=0)]
    max_output_tokens: Annotated[int, Field(gt=0)]
    tokens_per_wide_char: Annotated[float, Field(gt=0)] = 1.0
    taxonomy_detail: Literal["brief", "full"] = "full"
    in_flight: Annotated[int, Field(gt=0)] = 32
    start_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    gpus: Annotated[int, Field(ge=0)] | None = None
    prices: Prices | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ServingProfile:
        if self.max_output_tokens >= self.context_length:
            raise ValueError("max_output_tokens must be smaller than context_length")
        if self.managed and self.base_url is None:
            raise ValueError("a managed profile needs base_url: where its server listens")
        if self.managed and self.replicas:
            raise ValueError("a managed profile starts one server: several addresses need profile endpoint")
        for url in (self.base_url, *self.replicas):
            parts = urlsplit(url or "http://unset")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("base_url must look like http://127.0.0.1:8000/v1")
            if url and self.managed and (parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None):
                raise ValueError(
                    "a managed server listens on this machine only, base_url http://127.0.0.1:PORT/v1; one elsewhere "
                    "is reached by profile endpoint"
                )
        return self

    @property
    def url(self) -> str:
        """Base URL of the OpenAI-compatible API, without a slash at its end.

        Raises:
            InputError: nobody said where the endpoint is.
        """
        if self.base_url is None:
            raise InputError(f"profile {self.name} needs an address: set DONGCHA_LLM__BASE_URL (http://HOST:PORT/v1)")
        return self.base_url.rstrip("/")

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs of all servers, the first one's first."""
        return (self.url, *(url.rstrip("/") for url in self.replicas))

    @property
    def all_gpus(self) -> int | None:
        """GPUs that all its servers occupy together; None where nobody says."""
        if self.gpus is None:
            return 0 if self.managed else None
        return self.gpus * (1 + len(self.replicas))

    def each(self) -> tuple[ServingProfile, ...]:
        """This profile once for each of its servers."""
        return tuple(self.model_copy(update={"base_url": url, "replicas": ()}) for url in self.urls)

    @property
    def root_url(self) -> str:
        """Address of the server itself, where `/health` and `/metrics` are."""
        return self.url.removesuffix("/v1")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that a managed server listens on."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def api_key(self) -> str | None:
        """The key from the environment; None where it is not set."""
        return os.environ.get(self.api_key_env) or None


def profile_names() -> list[str]:
    """Names of the profiles that there are."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(path: Path, base_url: str | Sequence[str] | None = None, model: str | None = None) -> ServingProfile:
    """One profile file, with the address (or several) and the served model's name replaced where given.

    Raises:
        InputError: the file is missing, not YAML, or a field does not fit, naming it.
    """
    if not path.is_file():
        raise InputError(f"no serving profile {path.stem!r}; there are: {', '.join(profile_names())}")
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from error
    if not isinstance(read, dict):
        raise InputError(f"{path}: expected a mapping of settings")
    data: dict[str, Any] = {"name": path.stem} | read
    if base_url:
        first, *others = [base_url] if isinstance(base_url, str) else base_url
        data = {**data, "base_url": first, "replicas": others}
    if model:
        data["served_model_name"] = model
    try:
        return ServingProfile.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg']}" for e in error.errors())
        where = f"llm.base_url over {path}" if base_url else path
        raise InputError(f"{where}: {problems}") from error


def load_profile(settings: Settings) -> ServingProfile:
    """The profile that the settings name, with `llm.base_url` and `llm.model` laid over it.

    Raises:
        InputError: see `read_profile`; or the endpoint's address is not set.
    """
    llm = settings.llm
    profile = read_profile(PROFILES / f"{llm.profile}.yaml", llm.base_url, llm.model)
    _ = profile.url
    return profile
