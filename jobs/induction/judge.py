"""The LLM decides on candidates: are two near groups one wish or two.

Before anything depends on it, the judge is tried on pairs whose answer is known: groups that nobody confuses, and
halves of one group under names of their own. Who calls strangers one wish, or most halves two, is not asked
further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.induction.asking import Answer, Asker, Question, fitting, prompt_template, shown_text
from jobs.induction.groups import Group
from jobs.induction.proposal import Naming
from jobs.induction.refine import CONTROL, LEAST_AFFINITY, TWIN, Pair
from jobs.llm.answers import BadAnswerError, decode_json
from jobs.student.training import StageProgress

_ANSWER_TOKENS = 128
_SHOWN = (4, 3, 2, 1)
# What each group wants comes before the verdict, and cannot be left out: weak models put a comma there and then guess.
_WANTS: dict[str, Any] = {"type": "string", "minLength": 2, "maxLength": 60}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a_wants": _WANTS,
        "b_wants": _WANTS,
        "verdict": {"type": "string", "enum": ["one", "two"]},
    },
    "required": ["a_wants", "b_wants", "verdict"],
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


def _ask(
    asker: Asker,
    pairs: Sequence[Pair],
    groups: Sequence[Group],
    namings: Mapping[int, Naming],
    *,
    language: str,
    progress: StageProgress | None,
) -> list[Answer[bool]]:
    questions = [_question(asker, pair, groups, namings, language) for pair in pairs]
    return asker.ask("pair", questions, _SCHEMA, _ANSWER_TOKENS, progress)


def is_sound(
    asker: Asker,
    controls: Sequence[Pair],
    groups: Sequence[Group],
    namings: Mapping[int, Naming],
    *,
    language: str,
    progress: StageProgress | None = None,
) -> bool:
    """Whether the judge knows strangers from halves of one group; `groups` and `namings` hold the halves as well.

    It must call at least three in four strangers two wishes, and most pairs of halves one; no answer is a wrong one.
    Where a kind is missing, as in very small samples, there is no trial and no trust.
    """
    answers = _ask(asker, controls, groups, namings, language=language, progress=progress)
    strangers = [answer for pair, answer in zip(controls, answers, strict=True) if pair.why == CONTROL]
    twins = [answer for pair, answer in zip(controls, answers, strict=True) if pair.why == TWIN]
    why = ""
    if not strangers or not twins:
        return False
    if 4 * sum(answer.value is False for answer in strangers) < 3 * len(strangers):
        why = "the judge does not call groups that nobody confuses two wishes: its answers do not count"
    elif 2 * sum(answer.value is True for answer in twins) <= len(twins):
        why = "the judge does not call halves of one group one wish: its answers do not count"
    for answer in answers if why else ():
        answer.reject(why)
    return not why


def verdicts_of(
    asker: Asker,
    pairs: Sequence[Pair],
    groups: Sequence[Group],
    namings: Mapping[int, Naming],
    *,
    language: str,
    progress: StageProgress | None = None,
) -> dict[tuple[int, int], bool]:
    """Whether the judge sees one wish in each of the pairs that it answered; the data can contradict."""
    found: dict[tuple[int, int], bool] = {}
    answers = _ask(asker, pairs, groups, namings, language=language, progress=progress)
    for pair, answer in zip(pairs, answers, strict=True):
        if answer.value and pair.affinity < LEAST_AFFINITY:
            answer.reject("the data contradict: hardly any clustering puts the two together")
            found[pair.first, pair.second] = False
        elif answer.value is not None:
            found[pair.first, pair.second] = answer.value
    return found
