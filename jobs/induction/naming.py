"""The LLM names and defines groups, and draws their borders; what it says must prove itself.

Each group is shown beside its nearest neighbours. A name that is empty, in the wrong language, copied from the prompt,
not grounded in the group's own words or already taken is rejected with its reason, and the keyword name stays: a weak
model costs names, never groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from jobs.induction.asking import (
    PROMPTS,
    Answer,
    Asker,
    Question,
    fitting,
    language_code,
    prompt_template,
    shown_text,
)
from jobs.induction.groups import Group
from jobs.induction.proposal import Naming, slug
from jobs.induction.words import HAN, words
from jobs.llm.answers import BadAnswerError, decode_json
from jobs.llm.profiles import ServingProfile
from jobs.llm.rendering import one_line
from jobs.student.training import StageProgress

_ANSWER_TOKENS = 320
_SHOWN = ((6, 3), (5, 2), (4, 2), (3, 1), (2, 1))
_LONGEST_NAME = 60
# Marks of a model that copies or stutters: sentence marks in a name, a name that speaks of its own task, a character
# four times in a row, a phrase twice, counting.
_SENTENCE = re.compile(r"[？！。；，…“”‘’{}\[\]?!;:：\"]|\.\.")
_OWN_TASK = re.compile(
    r"_|[,'] *$|^(?:the|a) (?:customer|client|group|sentence|message|name|neighbou?r)|^(?:本组|这组|相邻)",
    re.IGNORECASE,
)
_STUTTER = re.compile(r"(\S)\1{3}")
_PHRASE_TWICE = re.compile(r"(\S.{2,}\S).*\1")
_COUNTED = re.compile(r"\d{3}")
_SHORTEST_DEFINITION = 8
_PROBED = 12
"""So many groups are asked about first; a model that names fewer than a quarter of them is not asked about the rest."""

# Characters a name, a definition and an item may have: room for a sentence, none for a weak model's ramblings.
_ROOM = {"zh": (20, 80, 30), "en": (_LONGEST_NAME, 200, 80)}
# As the prompts ask for it; a model that cannot keep to this has not read the rules.
_DEFINITION_BEGINS = {"zh": "客户", "en": "the customer"}
# A run of so many characters (Chinese) or words that stands in the prompt's own rules is an echo of them.
_ECHO = {"zh": 8, "en": 5}


def naming_schema(language: str, examples: int = 6) -> dict[str, Any]:
    """The JSON schema that the server holds answers to; `examples`: the highest number of a message."""
    name, definition, item = _ROOM[language_code(language)]
    texts = {"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": item}, "maxItems": 3}
    numbers = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": examples}, "maxItems": 3}
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": name},
            "definition": {"type": "string", "minLength": _SHORTEST_DEFINITION, "maxLength": definition},
            "include": texts,
            "exclude": texts,
            "examples": numbers,
            "id": {"type": "string", "pattern": "^[a-z][a-z0-9_]{1,39}$"},
        },
        "required": ["name", "definition", "include", "exclude", "examples", "id"],
        "additionalProperties": False,
    }


def _shown(group: Group, examples: int) -> dict[str, Any]:
    texts = [shown_text(turn.text) for turn in group.examples[:examples]]
    return {"keywords": [one_line(word) for word in group.keywords[:6]], "examples": texts}


def naming_prompt(group: Group, neighbours: Sequence[Group], language: str, profile: ServingProfile) -> str:
    """The request about one group, with as many examples as the model's context holds.

    Raises:
        InputError: the context is too small for the barest prompt.
    """
    template = prompt_template("induce_name", language)

    def candidates() -> Iterator[str]:
        for own, others in _SHOWN:
            near = [_shown(neighbour, others) for neighbour in neighbours]
            yield template.render(group=_shown(group, own), neighbours=near).strip()

    return fitting(candidates(), profile, _ANSWER_TOKENS)


def _marks(text: str) -> set[str]:
    """What two texts on the same matter share: stems of words, pairs of Chinese characters."""
    han = re.findall("[\u3400-\u9fff]+", text)
    pairs = {run[i : i + 2] for run in han for i in range(len(run) - 1)}
    return pairs | {word[:5] for word in words(text) if len(word) > 3 and not HAN.search(word)}


def _runs(text: str, language: str) -> set[tuple[str, ...]]:
    """Runs of characters or words of the length that tells an echo."""
    units = re.findall("[\u3400-\u9fff]", text) if language == "zh" else re.findall(r"[a-z']+", text.lower())
    length = _ECHO[language]
    return {tuple(units[i : i + length]) for i in range(len(units) - length + 1)}


@lru_cache(maxsize=16)
def _rules(prompt: str, language: str) -> frozenset[tuple[str, ...]]:
    source = (PROMPTS / f"{prompt}.{language}.md").read_text(encoding="utf-8")
    return frozenset(_runs(source, language))


def checked_name(data: Any, language: str, prompt: str) -> tuple[str, str]:
    """Name and definition of an answer, on one line each.

    Raises:
        BadAnswerError: schema, degenerate, echo (of the rules of `prompt`) or language (the wrong one).
    """
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("name", "definition")):
        raise BadAnswerError("schema", "expected an object with name and definition")
    code = language_code(language)
    name, definition = " ".join(data["name"].split()), " ".join(data["definition"].split())
    if not any(c.isalpha() for c in name) or len(name) > _LONGEST_NAME:
        raise BadAnswerError("schema", f"name must hold letters and have at most {_LONGEST_NAME} characters")
    if (
        _SENTENCE.search(name)
        or _OWN_TASK.search(name)
        or _PHRASE_TWICE.search(name)
        or any(_STUTTER.search(t) for t in (name, definition))
    ):
        raise BadAnswerError("degenerate", "the name is no name, or a text repeats itself")
    if len(definition) < _SHORTEST_DEFINITION or definition.casefold() == name.casefold():
        raise BadAnswerError("schema", "definition is missing or only repeats the name")
    if (code == "zh") != bool(HAN.search(name)) or (code == "zh") != bool(HAN.search(definition)):
        raise BadAnswerError("language", f"name and definition must be in {language}")
    if not definition.casefold().startswith(_DEFINITION_BEGINS[code]):
        raise BadAnswerError("schema", f"the definition must begin with {_DEFINITION_BEGINS[code]!r}")
    if _runs(f"{name} {definition}", code) & _rules(prompt, code):
        raise BadAnswerError("echo", "name or definition repeats the rules of the prompt")
    return name, definition


def parse_naming(text: str, group: Group, language: str) -> Naming:
    """Check one answer on its own (whether the name is taken is checked over all groups).

    Raises:
        BadAnswerError: not_json, schema, degenerate, echo, language, or not_grounded (no word of the group in the
        name).
    """
    data = decode_json(text)
    name, definition = checked_name(data, language, "induce_name")
    lists = [data.get("include", []), data.get("exclude", [])]
    if not isinstance(data.get("id"), str) or not all(
        isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists
    ):
        raise BadAnswerError("schema", "id must be a text, include and exclude lists of texts")
    numbers = data.get("examples", [])
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise BadAnswerError("schema", "examples must be a list of numbers")
    own = _marks(" ".join([*group.keywords, *(turn.text for turn in group.examples)]))
    if not _marks(name) & own:
        raise BadAnswerError("not_grounded", "the name has no word in common with the group's messages")
    include, exclude = (tuple(dict.fromkeys(i.strip() for i in items if len(i.strip()) > 1))[:3] for items in lists)
    stable = "" if _STUTTER.search(data["id"]) or _COUNTED.search(data["id"]) else slug(data["id"])
    shown = tuple(n - 1 for n in dict.fromkeys(numbers) if 0 < n <= len(group.examples))
    return Naming(name, definition, include, exclude, stable, shown)


def ask_names(
    asker: Asker, groups: Sequence[Group], every: Sequence[Group], language: str, progress: StageProgress | None
) -> list[Answer[Naming]]:
    """An answer for each of `groups`; `every` holds the groups that `neighbours` number by their place."""

    def question(group: Group) -> Question[Naming]:
        prompt = naming_prompt(group, [every[i] for i in group.neighbours], language, asker.profile)
        about = {"group": group.number, "turns": group.size, "keywords": list(group.keywords[:3])}
        return Question(about, prompt, lambda text: parse_naming(text, group, language))

    questions = [question(group) for group in groups]
    return asker.ask("name", questions, naming_schema(language), _ANSWER_TOKENS, progress)


def name_groups(
    asker: Asker,
    groups: Sequence[Group],
    every: Sequence[Group],
    language: str,
    progress: StageProgress | None = None,
) -> dict[int, Naming]:
    """Names by group number for as many of `groups` as the model can name well; `every` as for `ask_names`.

    Two groups may have got the same name; `settle_duplicates` comes after they were judged. A model that named few of
    the first groups is not asked about the others.

    Raises:
        ServerError: the server answered not a single request.
        InputError: the profile's context is too small for the shortest prompt.
    """
    answers = ask_names(asker, groups[:_PROBED], every, language, progress)
    named = sum(answer.value is not None for answer in answers)
    if 4 * named >= len(answers):
        answers += ask_names(asker, groups[_PROBED:], every, language, progress)
    else:
        for group in groups[_PROBED:]:
            _refused(asker, group.number, f"not asked: of the first {len(answers)} groups the model named {named}")
    return {g.number: a.value for g, a in zip(groups, answers, strict=False) if a.value is not None}


def _refused(asker: Asker, number: int, reason: str) -> None:
    asker.steps.append({"step": "name", "about": {"group": number}, "accepted": False, "reason": reason})


def settle_duplicates(namings: dict[int, Naming], asker: Asker) -> dict[int, Naming]:
    """Of groups with the same name the first, which is the largest, keeps it; the others fall back on keywords."""
    taken: dict[str, int] = {}
    kept: dict[int, Naming] = {}
    for number in sorted(namings):
        first = taken.setdefault(namings[number].name.casefold(), number)
        if first == number:
            kept[number] = namings[number]
        else:
            _refused(asker, number, f"duplicate: group {first} has this name")
    return kept
