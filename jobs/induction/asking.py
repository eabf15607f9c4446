"""Questions to the LLM about groups, and a record of each: what was asked, what came back, why it did not count.

A step that comes to nothing is never an error: the caller has a way without it. Only a server that answers nothing
at all is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from jobs.errors import InputError, ServerError
from jobs.llm.answers import BadAnswerError
from jobs.llm.client import FailureKind, LlmClient, LlmResult
from jobs.llm.profiles import ServingProfile
from jobs.llm.rendering import estimate_tokens, one_line
from jobs.settings import PROJECT, LlmSettings
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
    """Asks the servers of `profile`; `steps` is the record of everything asked, in order."""

    profile: ServingProfile
    llm: LlmSettings
    steps: list[dict[str, Any]] = field(default_factory=list)

    def ask(
        self,
        step: str,
        questions: Sequence[Question[T]],
        schema: dict[str, Any],
        max_tokens: int,
        progress: StageProgress | None = None,
    ) -> list[Answer[T]]:
        """One answer a question, in order. `step` names the step in the record and in what is reported.

        Raises:
            ServerError: the server answered not a single one.
        """
        if not questions:
            return []
        answers, results = zip(*asyncio.run(self._all(step, questions, schema, max_tokens, progress)), strict=True)
        failures = [result.failure for result in results if result.failure]
        if len(failures) == len(results) and all(f.kind != FailureKind.BAD_ANSWER for f in failures):
            raise ServerError(
                f"the LLM answered nothing ({step}; {failures[0].kind}: {failures[0].detail}): "
                "run `python -m jobs serve status`, or induce with --no-llm"
            )
        self.steps += [answer.step for answer in answers]
        return list(answers)

    async def _all(
        self,
        step: str,
        questions: Sequence[Question[T]],
        schema: dict[str, Any],
        max_tokens: int,
        progress: StageProgress | None,
    ) -> list[tuple[Answer[T], LlmResult[T]]]:
        done = 0

        async def one(client: LlmClient, question: Question[T]) -> tuple[Answer[T], LlmResult[T]]:
            nonlocal done
            attempts: list[dict[str, str]] = []

            def parse(text: str) -> T:
                attempts.append({"answer": text})
                try:
                    return question.parse(text)
                except BadAnswerError as error:
                    attempts[-1]["rejected"] = str(error)
                    raise

            message = [{"role": "user", "content": question.prompt}]
            result = await client.ask(message, schema, step, parse, max_tokens=max_tokens)
            done += 1
            if progress:
                progress(f"LLM: {step}", done, len(questions))
            record: dict[str, Any] = {"step": step, "about": question.about, "model": self.profile.served_model_name}
            record |= {"prompt": question.prompt, "attempts": attempts, "accepted": result.failure is None}
            record["reason"] = str(result.failure.detail) if result.failure else ""
            return Answer(result.value, record), result

        async with LlmClient(self.profile, self.llm) as client:
            return list(await asyncio.gather(*(one(client, question) for question in questions)))


def step_lines(steps: Sequence[dict[str, Any]]) -> str:
    """The record as JSON Lines (`llm_steps.jsonl`)."""
    return "".join(json.dumps(step, ensure_ascii=False) + "\n" for step in steps)
