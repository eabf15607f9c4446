"""The LLM client: bounded, patient, and never raising for one bad answer.

The official `openai` client over its aiohttp transport, its own retries switched off: what is retried, how long and
how often is decided here, because a bad answer must be asked again too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from httpx2 import ConnectTimeout
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError
from openai.types.chat import ChatCompletion

from jobs.llm.answers import BadAnswerError
from jobs.llm.endpoints import Endpoint, Endpoints
from jobs.llm.exchange import (
    SEED,
    Failure,
    FailureKind,
    LlmResult,
    LlmUsage,
    another_try,
    chat_request,
    read_completion,
)
from jobs.llm.profiles import ServingProfile
from jobs.llm.refusals import ABOUT_ONE_REQUEST, in_words
from jobs.settings import LlmSettings

T = TypeVar("T")
_LONGEST_PAUSE_SECONDS = 30.0
_OUTAGE_AFTER = 16
_NEVER_SENT = Failure(FailureKind.UNREACHABLE, "never sent")

_GONE = (FailureKind.UNREACHABLE, FailureKind.REFUSED)
_OUTAGES = (*_GONE, FailureKind.TIMEOUT, FailureKind.OVERLOADED, FailureKind.SERVER_ERROR)


class _RetryableError(Exception):
    """An attempt failed in a way that another one may mend."""

    def __init__(self, failure: Failure, after: float | None = None) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.after = after


class _FinalError(Exception):
    """An attempt failed in a way that no other one will mend."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def _classify(error: OpenAIError | TimeoutError) -> _RetryableError | _FinalError:
    # openai's aiohttp transport reports a refused or broken connection as a connect timeout.
    if isinstance(error.__cause__, ConnectTimeout):
        return _RetryableError(Failure(FailureKind.UNREACHABLE, "the connection failed"))
    if isinstance(error, APITimeoutError | TimeoutError):
        return _RetryableError(Failure(FailureKind.TIMEOUT, "no answer in time"))
    if isinstance(error, APIConnectionError):
        return _RetryableError(Failure(FailureKind.UNREACHABLE, "the connection failed"))
    if isinstance(error, APIStatusError):
        status, said = error.status_code, in_words(error.status_code)
        if status in ABOUT_ONE_REQUEST:
            return _FinalError(Failure(FailureKind.REJECTED, said))
        if status == 429:
            return _RetryableError(Failure(FailureKind.OVERLOADED, said), _retry_after(error))
        if status >= 500 or status in (408, 409):
            return _RetryableError(Failure(FailureKind.SERVER_ERROR, said), _retry_after(error))
        # Another server of the profile may take what this one refuses.
        return _RetryableError(Failure(FailureKind.REFUSED, said), _retry_after(error))
    return _RetryableError(Failure(FailureKind.SERVER_ERROR, f"the response cannot be read ({type(error).__name__})"))


def _retry_after(error: APIStatusError) -> float | None:
    try:
        return float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None


def in_flight_bound(profile: ServingProfile, llm: LlmSettings) -> int:
    """Most requests under way at once: the profile's for each of its servers, or fewer where the settings say so."""
    servers = profile.in_flight * len(profile.urls)
    return servers if llm.in_flight is None else min(llm.in_flight, servers)


class LlmClient:
    """Asks the servers of one profile. Use as an async context manager; `usage` counts what was sent and paid.

    Requests under way are bounded by the settings and the profile, and within these bounds by what each server bears
    (`Pace`). A server that is gone rests while the others work on.

    Once `_OUTAGE_AFTER` requests in a row have failed for the server's sake (down, slow, 5xx, a key that is refused)
    with all their retries, the rest fail at once with the same reason: a dead server costs minutes, not a night.
    """

    def __init__(self, profile: ServingProfile, llm: LlmSettings) -> None:
        self.profile = profile
        self.usage = LlmUsage()
        self._llm = llm
        most = in_flight_bound(profile, llm)
        self._slots = asyncio.Semaphore(most)
        self._jitter = random.Random(SEED)
        self._failed_in_a_row, self._outage = 0, _NEVER_SENT
        self._endpoints = Endpoints(
            profile.urls, profile.api_key or "none", min(most, profile.in_flight), llm.timeout_seconds
        )

    async def __aenter__(self) -> LlmClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._endpoints.close()

    async def ask(
        self,
        messages: Sequence[dict[str, str]],
        schema: dict[str, Any] | None,
        schema_name: str,
        parse: Callable[[str], T],
        max_tokens: int | None = None,
    ) -> LlmResult[T]:
        """One answer that keeps `schema` (None: one line) and that `parse` accepts, in up to `1 + retries` attempts.

        `parse` gets the answer's text and raises BadAnswerError for what does not count; such an answer is asked again
        with another seed and some temperature. `max_tokens` defaults to the profile's `max_output_tokens`.
        """
        request = chat_request(self.profile, messages, schema, schema_name, max_tokens)
        failure = _NEVER_SENT
        bad_answers, attempts, reply = 0, 0, ""
        async with self._slots:
            while attempts <= self._llm.retries:
                if self._failed_in_a_row >= _OUTAGE_AFTER:
                    failure = self._outage
                    break
                attempts += 1
                try:
                    async with self._endpoints.lease() as endpoint:
                        return await self._attempt(endpoint, request, bad_answers, parse, attempts)
                except BadAnswerError as error:
                    bad_answers += 1
                    self._failed_in_a_row = 0
                    failure, reply = Failure.bad_answer(error), error.reply
                except _RetryableError as error:
                    failure = error.failure
                    if attempts <= self._llm.retries:
                        await asyncio.sleep(self._pause(attempts, error.after))
                except _FinalError as error:
                    failure = error.failure
                    break
        self.usage.failures += 1
        if failure.kind in _OUTAGES:
            self._failed_in_a_row, self._outage = self._failed_in_a_row + 1, failure
        return LlmResult(None, failure, attempts, reply)

    def _pause(self, attempt: int, wanted: float | None) -> float:
        """Seconds before the next attempt: doubled each time, half of it random; a server's Retry-After is kept."""
        pause = self._llm.backoff_seconds * 2.0 ** (attempt - 1) * (0.5 + 0.5 * self._jitter.random())
        return min(_LONGEST_PAUSE_SECONDS, max(pause, wanted or 0.0))

    async def _attempt(
        self,
        endpoint: Endpoint,
        request: dict[str, Any],
        bad_answers: int,
        parse: Callable[[str], T],
        attempts: int,
    ) -> LlmResult[T]:
        request = another_try(request, bad_answers)
        self.usage.requests += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._llm.timeout_seconds):
                completion = await endpoint.api.chat.completions.create(**request)
        except (OpenAIError, TimeoutError) as error:
            failed = _classify(error)
            if failed.failure.kind in _OUTAGES:
                endpoint.ill(began, gone=failed.failure.kind in _GONE)
            raise failed from error
        finally:
            self.usage.seconds += time.monotonic() - began
        endpoint.well(began)
        if not isinstance(completion, ChatCompletion):
            raise BadAnswerError("not_json", "the response is not a chat completion")
        self._count(request, completion)
        value, text, tokens = read_completion(completion, parse)
        self._failed_in_a_row = 0
        self.usage.answers += 1
        return LlmResult(value, None, attempts, text, tokens)

    def _count(self, request: dict[str, Any], completion: ChatCompletion) -> None:
        self.usage.count(completion)


__all__ = [
    "Failure",
    "FailureKind",
    "LlmClient",
    "LlmResult",
    "LlmUsage",
    "in_flight_bound",
]
