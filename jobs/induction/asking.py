"""Questions to the LLM about groups, and a record of each: what was asked, what came back, why it did not count.

A step that comes to nothing is never an error: the caller has a way without it. Only a server that answers nothing
at all is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from jobs.errors import InputError, ServerError
from jobs.llm.answers import BadAnswerError
from jobs.llm.client import Failure, FailureKind, LlmClient
from jobs.llm.exchange import chat_request
from jobs.llm.kept import KeptAnswers, OpenedAnswers, kept_answers, request_key
from jobs.llm.profiles import ServingProfile, load_profile
from jobs.llm.rendering import estimate_tokens, one_line
from jobs.settings import PROJECT, LlmSettings, Settings
from jobs.student.training import StageProgress

T = TypeVar("T")
PROMPTS = PROJECT / "prompts"
_MARGIN_TOKENS = 64
_SHOWN_CHARS = 160


def language_code(language: str) -> str:
    """The language of prompts and limits: `zh` for all kinds of Chinese, else `en`."""
    return "zh" if language.startswith("zh") else "en"


def prompt_template(name: str, language: str) -> Template:
    """`prompts/<name>.<language>.md`; sandboxed, a field that is missing is an error."""
    path = PROMPTS / f"{name}.{language_code(language)}.md"
    return SandboxedEnvironment(undefined=StrictUndefined).from_string(path.read_text(encoding="utf-8"))


def shown_text(text: str) -> str:
    """A message as prompts show it: one line, neutralised, cut."""
    return one_line(text)[:_SHOWN_CHARS]


def fitting(candidates: Iterable[str], profile: ServingProfile, answer_tokens: int) -> str:
    """The first of the candidates, given from the fullest to the barest, that the model's context holds.

    Raises:
        InputError: none does.
    """
    room = profile.context_length - answer_tokens - _MARGIN_TOKENS
    for text in candidates:
        if estimate_tokens(text, profile.tokens_per_wide_char) <= room:
            return text
    raise InputError(
        f"profile {profile.name}: a context of {profile.context_length} tokens is too small for induction; "
        "choose another profile, or induce without the LLM"
    )


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """`about`: what it concerns, for the record. `parse` raises BadAnswerError for an answer that does not count."""

    about: dict[str, Any]
    prompt: str
    parse: Callable[[str], T]


@dataclass(frozen=True, slots=True)
class _Form:
    """How the answers to all questions of a step must look."""

    step: str
    schema: dict[str, Any] | None
    max_tokens: int


@dataclass(slots=True)
class Answer(Generic[T]):
    """The value, None where no answer counted; `step` is the record, which holds chat text: a file, never a log."""

    value: T | None
    step: dict[str, Any]

    def reject(self, reason: str) -> None:
        """Take the value back for a reason that only shows beside the other answers."""
        self.value = None
        self.step["accepted"] = False
        self.step["reason"] = reason


@dataclass(slots=True)
class Asker:
    """Asks the servers of `profile`; `steps` is the record of everything asked, in order.

    Where answers are `kept`, the one that counted for the same question to the same model is not asked for again.
    """

    profile: ServingProfile
    llm: LlmSettings
    kept: KeptAnswers | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    def ask(
        self,
        step: str,
        questions: Sequence[Question[T]],
        schema: dict[str, Any] | None,
        max_tokens: int,
        progress: StageProgress | None = None,
    ) -> list[Answer[T]]:
        """One answer a question, in order, that keeps `schema` or, where it is None, is one line of text.

        `step` names the step in the record and in what is reported.

        Raises:
            ServerError: the server answered not a single one.
            InputError: the file with the kept answers cannot be used.
        """
        if not questions:
            return []
        form = _Form(step, schema, max_tokens)
        with self.kept.opened() if self.kept else nullcontext() as kept:
            asked = asyncio.run(self._all(questions, form, kept, progress))
        answers, failures = [answer for answer, _ in asked], [failure for _, failure in asked if failure]
        if len(failures) == len(asked) and all(f.kind != FailureKind.BAD_ANSWER for f in failures):
            raise ServerError(
                f"the LLM answered nothing ({step}; {failures[0].kind}: {failures[0].detail}): "
                "run `python -m jobs serve status`, or induce with --no-llm"
            )
        self.steps += [answer.step for answer in answers]
        return answers

    async def _all(
        self,
        questions: Sequence[Question[T]],
        form: _Form,
        kept: OpenedAnswers | None,
        progress: StageProgress | None,
    ) -> list[tuple[Answer[T], Failure | None]]:
        done = 0

        async def one(client: LlmClient, question: Question[T]) -> tuple[Answer[T], Failure | None]:
            nonlocal done
            found = await self._one(client, question, form, kept)
            done += 1
            if progress:
                progress(f"LLM: {form.step}", done, len(questions))
            return found

        async with LlmClient(self.profile, self.llm) as client:
            return list(await asyncio.gather(*(one(client, question) for question in questions)))

    async def _one(
        self, client: LlmClient, question: Question[T], form: _Form, kept: OpenedAnswers | None
    ) -> tuple[Answer[T], Failure | None]:
        attempts: list[dict[str, str]] = []

        def parse(text: str) -> T:
            attempts.append({"answer": text})
            try:
                return question.parse(text)
            except BadAnswerError as error:
                attempts[-1]["rejected"] = str(error)
                raise

        record: dict[str, Any] = {"step": form.step, "about": question.about, "model": self.profile.served_model_name}
        record |= {"prompt": question.prompt, "attempts": attempts, "accepted": True, "reason": ""}
        message = [{"role": "user", "content": question.prompt}]
        key = request_key(chat_request(self.profile, message, form.schema, form.step, form.max_tokens))
        if kept and (known := kept.get(key)) is not None:
            with suppress(BadAnswerError):  # the checks are stricter now than when it was kept: it is asked again
                return Answer(parse(known), record | {"kept": True}), None
        result = await client.ask(message, form.schema, form.step, parse, max_tokens=form.max_tokens)
        if result.failure:
            return Answer(None, record | {"accepted": False, "reason": str(result.failure.detail)}), result.failure
        if kept:
            kept.put(key, attempts[-1]["answer"])
        return Answer(result.value, record), None


def asker_of(settings: Settings) -> Asker:
    """Asks the LLM of the settings, and nothing twice that counted: not in a run that was killed, not a week later.

    Raises:
        InputError: there is no such serving profile.
    """
    # A weak model that fails twice at a name will fail again; the keyword name is there.
    llm = settings.llm.model_copy(update={"retries": min(1, settings.llm.retries)})
    return Asker(load_profile(settings), llm, kept_answers(settings))


def step_lines(steps: Sequence[dict[str, Any]]) -> str:
    """The record as JSON Lines (`llm_steps.jsonl`)."""
    return "".join(json.dumps(step, ensure_ascii=False) + "\n" for step in steps)
