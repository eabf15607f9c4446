"""What each turn wants in the LLM's words: one short wish, so that turns which want the same read the same.

Grouping sees the wish beside the turn's own words (keyphrase expansion, Viswanathan et al. 2024, "Large Language Models
Enable Few-Shot Clustering", TACL 12, arXiv:2307.00524). In chats people talk about hospitals, sons and lorries; what
they want of the business is often not said in a word that others use. A model that cannot do it is found out without
gold: its wishes do not find the messages that they were made of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from sklearn.preprocessing import normalize

from jobs.conversation import CUSTOMER
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
from jobs.induction.features import FloatArray
from jobs.induction.turns import CustomerTurn
from jobs.induction.words import HAN
from jobs.llm.answers import BadAnswerError
from jobs.llm.rendering import one_line
from jobs.student.training import StageProgress

Embed = Callable[[Sequence[str]], FloatArray]

_ANSWER_TOKENS = 32
_LONGEST = {"zh": 24, "en": 60}
_NO_WISH = {"zh": "无", "en": "none"}
_SPEAKERS = {"zh": ("客户：", "顾问："), "en": ("Customer: ", "Agent: ")}
_EXAMPLE = re.compile(r"^(?:消息：|Message: ).* (?:→|->) (.+)$", re.MULTILINE)
_BEFORE_CHARS = 60
_MARKS = " .。,，;；:：!！?？→'\"“”{}"
_PROBED = 48
_FEWEST_PROBED = 8
# Of wishes by chance a quarter finds its message among the nearest quarter, 44 in a hundred at most in 240 draws; of a
# model of 1.5 billion parameters 82 to 98 in a hundred did (docs/experiments-induction.md).
_NEAREST = 0.25
_FOUND = 0.6


def parse_wish(text: str, language: str) -> str:
    """The wish on one line; empty where the model sees none.

    Raises:
        BadAnswerError: schema (no letters, or too long for a wish) or language (the wrong one).
    """
    code = language_code(language)
    wish = one_line(text).strip(_MARKS)
    if wish.casefold() == _NO_WISH[code]:
        return ""
    if not any(c.isalpha() for c in wish) or len(wish) > _LONGEST[code]:
        raise BadAnswerError("schema", f"a wish has letters, and at most {_LONGEST[code]} characters")
    if (code == "zh") != bool(HAN.search(wish)):
        raise BadAnswerError("language", f"the wish must be in {language}")
    return wish


def prompt_examples(language: str) -> frozenset[str]:
    """The wishes that the prompt itself gives as examples: a weak model copies them, whatever the message says."""
    code = language_code(language)
    source = (PROMPTS / f"induce_wish.{code}.md").read_text(encoding="utf-8")
    return frozenset(found.strip().casefold() for found in _EXAMPLE.findall(source)) - {_NO_WISH[code]}


def _question(asker: Asker, turn: CustomerTurn, language: str) -> Question[str]:
    template, code = prompt_template("induce_wish", language), language_code(language)
    customer, agent = _SPEAKERS[code]
    before = [
        (customer if said.speaker == CUSTOMER else agent) + one_line(said.text)[:_BEFORE_CHARS] for said in turn.before
    ]

    def candidates() -> Iterator[str]:
        for first in range(len(before) + 1):
            yield template.render(before=before[first:], message=shown_text(turn.text)).strip()

    about = {"conversation_id": turn.conversation_id, "turn": turn.turn}
    prompt = fitting(candidates(), asker.profile, _ANSWER_TOKENS)
    return Question(about, prompt, lambda text: parse_wish(text, language))


def share_found(wishes: FloatArray, messages: FloatArray) -> float:
    """How many of n wishes have their own message among the nearest quarter of all n, by cosine; both (n, d).

    Each side is centred on itself: wishes are written in a style of their own. Messages equally near share places.
    """
    sides = [normalize(side - side.mean(axis=0, keepdims=True)) for side in (wishes, messages)]
    close = sides[0] @ sides[1].T
    own = close.diagonal()[:, None]
    nearer = (close > own).sum(axis=1) + ((close == own).sum(axis=1) - 1) / 2
    return float((nearer < _NEAREST * len(close)).mean())


def _doubts(answers: Sequence[Answer[str]], turns: Sequence[CustomerTurn], embed: Embed) -> str:
    """Why the model's wishes do not count; empty where they do."""
    told = [(answer.value, turn.core) for answer, turn in zip(answers, turns, strict=True) if answer.value]
    if 2 * len(told) < len(turns):
        return f"of {len(turns)} messages on trial {len(told)} were given a wish in the form asked for"
    if len(told) < _FEWEST_PROBED:
        return f"only {len(told)} wishes to try the model on"
    both = embed([*(wish for wish, _ in told), *(message for _, message in told)])
    share = share_found(both[: len(told)], both[len(told) :])
    if share < _FOUND:
        return f"of {len(told)} wishes on trial only {share:.0%} say something about the message they were made of"
    return ""


def with_wishes(
    turns: Sequence[CustomerTurn],
    asker: Asker,
    language: str,
    embed: Embed,
    progress: StageProgress | None = None,
) -> list[CustomerTurn]:
    """The turns with the wish that the LLM reads in each, or as they came where its wishes say nothing.

    It is tried on a few dozen first, evenly drawn, and a model that fails is not asked about the rest. A turn whose
    answer does not count keeps its own words alone.

    Raises:
        ServerError: the server answered not a single request.
        InputError: the profile's context is too small for the shortest prompt, or the kept answers cannot be used.
    """

    def ask(places: Sequence[int]) -> list[Answer[str]]:
        questions = [_question(asker, turns[place], language) for place in places]
        return asker.ask("wish", questions, None, _ANSWER_TOKENS, progress)

    probed = sorted(set(np.linspace(0, len(turns) - 1, min(_PROBED, len(turns))).round().astype(int).tolist()))
    answers = dict(zip(probed, ask(probed), strict=True))
    if doubts := _doubts(list(answers.values()), [turns[place] for place in probed], embed):
        for answer in answers.values():
            answer.reject(f"{doubts}: its wishes do not count")
        return list(turns)
    rest = [place for place in range(len(turns)) if place not in answers]
    answers |= dict(zip(rest, ask(rest), strict=True))
    return [replace(turn, wish=answers[place].value) for place, turn in enumerate(turns)]
