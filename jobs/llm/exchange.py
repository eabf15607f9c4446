"""A request to an LLM and what comes of it, the same whether it travels over HTTP or in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from jobs.llm.answers import BadAnswerError
from jobs.llm.profiles import ServingProfile

if TYPE_CHECKING:  # most who import this send no request, and the client takes a second to import
    from openai.types.chat import ChatCompletion

T = TypeVar("T")
SEED = 17


class FailureKind(StrEnum):
    """Why there is no answer; refused: the server takes no request of ours (key, balance, model), rejected: not this
    one; deferred: the request lies in a file and waits for somebody to run it."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    REFUSED = "refused"
    REJECTED = "rejected"
    BAD_ANSWER = "bad_answer"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request came to nothing after all its attempts; holds no word of the chat.

    `reason`: of a bad answer, BadAnswerError's word for it.
    """

    kind: FailureKind
    detail: str
    reason: str | None = None

    @classmethod
    def bad_answer(cls, error: BadAnswerError) -> Failure:
        """An answer that does not count."""
        return cls(FailureKind.BAD_ANSWER, str(error), error.reason)


@dataclass(frozen=True, slots=True)
class LlmResult(Generic[T]):
    """A parsed answer, or a failure; `text` is what the model said, of bad answers the last one.

    `token_logprobs` are (token text, natural log-probability) of the answer.
    """

    value: T | None
    failure: Failure | None
    attempts: int
    text: str = ""
    token_logprobs: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class LlmUsage:
    """Counts since the client was made. `seconds`: sum over requests, so larger than the wall clock."""

    requests: int = 0
    answers: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def count(self, completion: ChatCompletion) -> None:
        """Add the tokens that a response says it took; the client reads responses without checking them."""
        usage = completion.usage
        self.prompt_tokens += getattr(usage, "prompt_tokens", None) or 0
        self.output_tokens += getattr(usage, "completion_tokens", None) or 0
        self.cached_tokens += getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None) or 0


def chat_request(
    profile: ServingProfile,
    messages: Sequence[dict[str, str]],
    schema: dict[str, Any] | None,
    schema_name: str,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """Arguments of the openai client for an answer that keeps `schema`; what OpenAI does not know is in `extra_body`.

    `schema` None asks for one line of text. `max_tokens` defaults to the profile's `max_output_tokens`.
    """
    body: dict[str, Any] = dict(profile.extra_body)
    request: dict[str, Any] = {
        "model": profile.served_model_name,
        "messages": list(messages),
        "max_tokens": max_tokens or profile.max_output_tokens,
        "seed": SEED,
        "temperature": 0.0,
        "extra_body": body,
    }
    if schema is None:
        request["stop"] = ["\n"]
    elif profile.structured == "structured_outputs":
        body["structured_outputs"] = {"json": schema, "disable_any_whitespace": True}
    else:
        form = {"name": schema_name, "schema": schema, "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": form}
    if profile.logprobs:
        request["logprobs"] = True
    return request


def another_try(request: dict[str, Any], bad_answers: int) -> dict[str, Any]:
    """The request after so many answers that did not count: another seed, and some temperature."""
    return request | {"seed": SEED + bad_answers, "temperature": 0.7} if bad_answers else request


def read_completion(
    completion: ChatCompletion, parse: Callable[[str], T]
) -> tuple[T, str, tuple[tuple[str, float], ...]]:
    """(parsed answer, its text, its tokens with their log-probabilities).

    Raises:
        BadAnswerError: what came back does not count; its `reply` is the text.
    """
    if not completion.choices:
        raise BadAnswerError("schema", "the response holds no choice")
    choice = completion.choices[0]
    text = getattr(getattr(choice, "message", None), "content", None) or ""
    if not isinstance(text, str):
        raise BadAnswerError("schema", "the response holds no text")
    text = text.encode(errors="ignore").decode()  # a lone surrogate, which no table could hold
    if getattr(choice, "finish_reason", None) == "length":
        raise BadAnswerError("truncated", "the answer ran into the token limit", text)
    try:
        value = parse(text)
    except BadAnswerError as error:
        error.reply = text
        raise
    tokens = (choice.logprobs.content or []) if choice.logprobs is not None else []
    return value, text, tuple((token.token, token.logprob) for token in tokens)


class Asks(Protocol):
    """Whoever takes a question to an LLM: over HTTP, or by files."""

    usage: LlmUsage

    async def ask(
        self,
        messages: Sequence[dict[str, str]],
        schema: dict[str, Any] | None,
        schema_name: str,
        parse: Callable[[str], T],
        max_tokens: int | None = None,
    ) -> LlmResult[T]:
        """One answer that keeps `schema` (None: one line of text) and that `parse` accepts, or why there is none."""
        ...
