"""The LLM decides on candidates: are two near groups one wish, does a group fall into two with names of their own.

Two pairs that have nothing in common are put among the questions. A judge who calls one of them the same wish says yes
to anything, and none of its answers counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.induction.asking import Answer, Asker, Question, fitting, prompt_template, shown_text
from jobs.induction.groups import Group
from jobs.induction.naming import ask_names
from jobs.induction.proposal import Naming
from jobs.induction.refine import CONTROL, LEAST_AFFINITY, Pair
from jobs.llm.answers import BadAnswerError, decode_json
from jobs.student.training import StageProgress

_ANSWER_TOKENS = 96
_SHOWN = (4, 3, 2, 1)
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "difference": {"type": "string", "maxLength": 80},
        "verdict": {"type": "string", "enum": ["one", "two"]},
    },
    "required": ["difference", "verdict"],
    "additionalProperties": False,
}


def parse_verdict(text: str) -> bool:
    """Whether the judge sees one wish.

    Raises:
        BadAnswerError: not_json or schema.
    """
    data = decode_json(text)
    if not isinstance(data, dict) or data.get("verdict") not in ("one", "two"):
        raise BadAnswerError("schema", "expected an object whose verdict is one or two")
    return bool(data["verdict"] == "one")


def _question(
    asker: Asker, pair: Pair, groups: Sequence[Group], namings: Mapping[int, Naming], language: str
) -> Question[bool]:
    template = prompt_template("induce_pair", language)

    def shown(number: int, examples: int) -> dict[str, Any]:
        naming = namings[number]
        texts = [shown_text(turn.text) for turn in groups[number].examples[:examples]]
        return {"name": naming.name, "definition": naming.definition, "examples": texts}

    def candidates() -> Iterator[str]:
        for examples in _SHOWN:
            yield template.render(first=shown(pair.first, examples), second=shown(pair.second, examples)).strip()

    about = {"groups": [pair.first, pair.second], "affinity": round(pair.affinity, 3), "why": pair.why}
    return Question(about, fitting(candidates(), asker.profile, _ANSWER_TOKENS), parse_verdict)


def one_wish(
    asker: Asker,
    pairs: Sequence[Pair],
    groups: Sequence[Group],
    namings: Mapping[int, Naming],
    *,
    language: str,
    progress: StageProgress | None = None,
) -> tuple[list[Pair], bool]:
    """The pairs that the judge calls one wish and that the data do not contradict; controls among them are none.

    The second value is false where the judge fell for a control.
    """
    questions = [_question(asker, pair, groups, namings, language) for pair in pairs]
    answers: list[Answer[bool]] = asker.ask("pair", questions, _SCHEMA, _ANSWER_TOKENS, progress)
    if any(answer.value for pair, answer in zip(pairs, answers, strict=True) if pair.why == CONTROL):
        for answer in answers:
            answer.reject("the judge calls groups that nobody confuses one wish: its answers do not count")
        return [], False
    found: list[Pair] = []
    for pair, answer in zip(pairs, answers, strict=True):
        if answer.value and pair.affinity < LEAST_AFFINITY:
            answer.reject("the data contradict: hardly any clustering puts the two together")
        elif answer.value:
            found.append(pair)
    return found, True


def names_of_halves(
    asker: Asker, halves: Sequence[tuple[Group, Group]], language: str, progress: StageProgress | None = None
) -> list[tuple[Naming, Naming] | None]:
    """Names of both halves of each group, each seen beside the other; None where the split is not confirmed.

    It is confirmed where both halves get names and definitions that count and differ.
    """
    every = [half for pair in halves for half in pair]
    facing = [Group(place, half.size, half.keywords, half.examples, (place ^ 1,)) for place, half in enumerate(every)]
    answers = ask_names(asker, facing, facing, language, progress)
    found: list[tuple[Naming, Naming] | None] = []
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        for answer in (first, second):
            answer.step["step"] = "split"
        a, b = first.value, second.value
        if a is None or b is None:
            found.append(None)
        elif a.name.casefold() == b.name.casefold() or a.definition.casefold() == b.definition.casefold():
            for answer in (first, second):
                answer.reject("both halves got the same name or definition: one wish")
            found.append(None)
        else:
            found.append((a, b))
    return found
