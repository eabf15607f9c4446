"""The LLM names and defines groups; what it says must prove itself, and all of it can be inspected afterwards.

Each group is shown beside its nearest neighbours, so that the name draws a border. A name that is empty, in the wrong
language, not grounded in the group's own words or already taken is rejected with its reason, and the keyword name
stays: a weak model costs names, never groups.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from jobs.errors import InputError, ServerError
from jobs.induction.groups import Group
from jobs.induction.proposal import Naming, slug
from jobs.induction.words import HAN, words
from jobs.llm.answers import BadAnswerError, decode_json
from jobs.llm.client import FailureKind, LlmClient, LlmResult
from jobs.llm.profiles import ServingProfile
from jobs.llm.rendering import estimate_tokens, one_line
from jobs.settings import PROJECT, LlmSettings
from jobs.student.training import StageProgress

_PROMPTS = PROJECT / "prompts"
_ANSWER_TOKENS = 320
_MARGIN_TOKENS = 64
_EXAMPLE_CHARS = 160
_SHOWN = ((6, 3), (5, 2), (4, 2), (3, 1), (2, 1))
_LONGEST_NAME = 60
# Marks of a model that copies or stutters: sentence marks in a name, one character four times in a row, counting.
_SENTENCE = re.compile(r"[？！。；?!;:：]|，.*，")
_STUTTER = re.compile(r"(\S)\1{3}")
_COUNTED = re.compile(r"\d{3}")
_SHORTEST_DEFINITION = 8

# Characters a name, a definition and an item may have: room for a sentence, none for a weak model's ramblings.
_ROOM = {"zh": (20, 80, 30), "en": (_LONGEST_NAME, 200, 80)}


def _code(language: str) -> str:
    """The language of prompt and limits."""
    return "zh" if language.startswith("zh") else "en"


def naming_schema(language: str) -> dict[str, Any]:
    """The JSON schema that the server holds answers to."""
    name, definition, item = _ROOM[_code(language)]
    texts = {"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": item}, "maxItems": 3}
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": name},
            "definition": {"type": "string", "minLength": _SHORTEST_DEFINITION, "maxLength": definition},
            "include": texts,
            "exclude": texts,
            "id": {"type": "string", "pattern": "^[a-z][a-z0-9_]{1,39}$"},
        },
        "required": ["name", "definition", "include", "exclude", "id"],
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True)
class NamingResult:
    """Accepted names by group number, and one trace entry a group (they hold chat text: a file, never a log)."""

    namings: dict[int, Naming]
    trace: tuple[dict[str, Any], ...]


def _shown(group: Group, examples: int) -> dict[str, Any]:
    texts = [one_line(turn.text)[:_EXAMPLE_CHARS] for turn in group.examples[:examples]]
    return {"keywords": [one_line(word) for word in group.keywords[:6]], "examples": texts}


def naming_prompt(group: Group, neighbours: Sequence[Group], language: str, profile: ServingProfile) -> str:
    """The request about one group, with as many examples as the model's context holds.

    Raises:
        InputError: not even the shortest form fits the profile's context.
    """
    template = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=False).from_string(
        (_PROMPTS / f"induce_name.{_code(language)}.md").read_text(encoding="utf-8")
    )
    room = profile.context_length - _ANSWER_TOKENS - _MARGIN_TOKENS
    for own, others in _SHOWN:
        near = [_shown(neighbour, others) for neighbour in neighbours]
        text = template.render(group=_shown(group, own), neighbours=near).strip()
        if estimate_tokens(text, profile.tokens_per_wide_char) <= room:
            return text
    raise InputError(
        f"profile {profile.name}: a context of {profile.context_length} tokens is too small to name groups; "
        "choose another profile, or induce without the LLM"
    )


def _marks(text: str) -> set[str]:
    """What two texts on the same matter share: stems of words, pairs of Chinese characters."""
    han = re.findall("[\u3400-\u9fff]+", text)
    pairs = {run[i : i + 2] for run in han for i in range(len(run) - 1)}
    return pairs | {word[:5] for word in words(text) if len(word) > 3 and not HAN.search(word)}


def parse_naming(text: str, group: Group, language: str) -> Naming:
    """Check one answer on its own (whether the name is taken is checked over all groups).

    Raises:
        BadAnswerError: not_json, schema, degenerate, language (the wrong one), or not_grounded (no word of the
        group in the name).
    """
    data = decode_json(text)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("name", "definition", "id")):
        raise BadAnswerError("schema", "expected an object with name, definition and id")
    lists = [data.get("include", []), data.get("exclude", [])]
    if not all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists):
        raise BadAnswerError("schema", "include and exclude must be lists of texts")
    name, definition = " ".join(data["name"].split()), " ".join(data["definition"].split())
    if not any(c.isalpha() for c in name) or len(name) > _LONGEST_NAME:
        raise BadAnswerError("schema", f"name must hold letters and have at most {_LONGEST_NAME} characters")
    if _SENTENCE.search(name) or _STUTTER.search(name) or _STUTTER.search(definition):
        raise BadAnswerError("degenerate", "the name is a sentence, or a text repeats one character")
    if len(definition) < _SHORTEST_DEFINITION or definition.casefold() == name.casefold():
        raise BadAnswerError("schema", "definition is missing or only repeats the name")
    if language.startswith("zh") != bool(HAN.search(name)) or language.startswith("zh") != bool(HAN.search(definition)):
        raise BadAnswerError("language", f"name and definition must be in {language}")
    own = _marks(" ".join([*group.keywords, *(turn.text for turn in group.examples)]))
    if not _marks(name) & own:
        raise BadAnswerError("not_grounded", "the name has no word in common with the group's messages")
    include, exclude = (tuple(dict.fromkeys(i.strip() for i in items if len(i.strip()) > 1))[:3] for items in lists)
    stable = "" if _STUTTER.search(data["id"]) or _COUNTED.search(data["id"]) else slug(data["id"])
    return Naming(name, definition, include, exclude, stable)


async def _ask(
    client: LlmClient, groups: Sequence[Group], language: str, progress: StageProgress | None
) -> list[tuple[str, LlmResult[Naming], list[dict[str, str]]]]:
    done = 0

    async def one(group: Group) -> tuple[str, LlmResult[Naming], list[dict[str, str]]]:
        nonlocal done
        attempts: list[dict[str, str]] = []

        def parse(text: str) -> Naming:
            try:
                naming = parse_naming(text, group, language)
            except BadAnswerError as error:
                attempts.append({"answer": text, "rejected": str(error)})
                raise
            attempts.append({"answer": text})
            return naming

        prompt = naming_prompt(group, [groups[i] for i in group.neighbours], language, client.profile)
        message = [{"role": "user", "content": prompt}]
        result = await client.ask(message, naming_schema(language), "naming", parse, max_tokens=_ANSWER_TOKENS)
        done += 1
        if progress:
            progress("naming groups", done, len(groups))
        return prompt, result, attempts

    return list(await asyncio.gather(*(one(group) for group in groups)))


@dataclass(frozen=True, slots=True)
class Namer:
    """Asks the server of `profile`. `name_groups` opens and closes its own connections."""

    profile: ServingProfile
    llm: LlmSettings

    def name_groups(
        self, groups: Sequence[Group], language: str, progress: StageProgress | None = None
    ) -> NamingResult:
        """Names for as many groups as the model can name well; groups must be numbered by their place.

        Of two groups that got the same name the larger keeps it.

        Raises:
            ServerError: the server answered not a single request.
            InputError: the profile's context is too small for the shortest prompt.
        """

        async def ask_all() -> list[tuple[str, LlmResult[Naming], list[dict[str, str]]]]:
            async with LlmClient(self.profile, self.llm) as client:
                return await _ask(client, groups, language, progress)

        answers = asyncio.run(ask_all())
        failures = [result.failure for _, result, _ in answers if result.failure]
        if groups and len(failures) == len(answers) and all(f.kind != FailureKind.BAD_ANSWER for f in failures):
            raise ServerError(
                f"the LLM named no group ({failures[0].kind}: {failures[0].detail}): "
                "run `python -m jobs serve status`, or induce with --no-llm"
            )
        return self._settle(groups, answers)

    def _settle(
        self, groups: Sequence[Group], answers: Sequence[tuple[str, LlmResult[Naming], list[dict[str, str]]]]
    ) -> NamingResult:
        namings: dict[int, Naming] = {}
        trace: list[dict[str, Any]] = []
        taken: dict[str, int] = {}
        for group, (prompt, result, attempts) in zip(groups, answers, strict=True):
            reason = str(result.failure.detail) if result.failure else ""
            if result.value is not None:
                first = taken.setdefault(result.value.name.casefold(), group.number)
                if first == group.number:
                    namings[group.number] = result.value
                else:
                    reason = f"duplicate: group {first} has this name"
            trace.append(
                {
                    "step": "name",
                    "group": group.number,
                    "model": self.profile.served_model_name,
                    "prompt": prompt,
                    "attempts": attempts,
                    "accepted": group.number in namings,
                    "reason": reason,
                }
            )
        return NamingResult(namings, tuple(trace))


def trace_lines(trace: Sequence[dict[str, Any]]) -> str:
    """The trace as JSON Lines (`induction_trace.jsonl`)."""
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in trace)
