"""Which customer turns may carry a wish.

Whole chats are mostly greetings, thanks, yes and no, names and numbers given on request; a file prepared for
measuring holds nothing but wishes. Both come in through the same door, so what they look like decides: where
conversations are hardly longer than a turn and few turns are empty, or where each is a single turn, somebody has
already chosen the turns and all of them count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.conversation import Conversation, Turn
from jobs.induction.courtesy import core
from jobs.induction.words import HAN, words

_CHOSEN_BEFORE = 0.15
_CHOSEN_TURNS = 2
_SINGLE_TURNS = 1.05
_MASS_MESSAGE_SHARE = 0.02
_MASS_MESSAGE_CHARS = 60
_FEWEST_CONVERSATIONS = 5
_BEFORE = 2
_QUESTION = re.compile(
    r"[?？]|吗|么\b|怎么|如何|多少|什么|哪|几|能不能|可不可以|想|要|\b(?:how|what|when|where|why|which|who|need|want)\b",
    re.IGNORECASE,
)
# Pages of error messages and cells of spreadsheets that got into the chat.
_MARKUP = re.compile(r"</?(?:html|head|body|table|t[rdh]|div|span|script|center|hr|br|p)\b[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CustomerTurn:
    """One customer turn; `core` is its text without courtesies, the text itself where nothing else is left.

    `before`: what was said right before it. `wish`: what an LLM says that it wants; empty where it sees nothing, None
    where none was asked or its answer did not count.
    """

    conversation_id: str
    turn: int
    text: str
    core: str
    carries: bool
    before: tuple[Turn, ...] = ()
    wish: str | None = None


def _specific(rest: str, opening: bool) -> bool:
    """Whether what is left of a turn can be a wish: a question or a wanting word, or enough words."""
    if not any(c.isalpha() for c in rest):
        return False
    if HAN.search(rest):
        length, enough = len(HAN.findall(rest)), 5
    else:
        length, enough = len(words(rest)), 4
    return length >= enough or (length >= 2 and (opening or bool(_QUESTION.search(rest))))


def _mass_messages(conversations: Sequence[Conversation]) -> set[str]:
    """Long texts that come word for word in many conversations: forwarded notices, menus, signatures."""
    seen: Counter[str] = Counter()
    for conversation in conversations:
        seen.update({t for _, t in conversation.customer_turns if len(t) >= _MASS_MESSAGE_CHARS})
    least = max(_FEWEST_CONVERSATIONS, _MASS_MESSAGE_SHARE * len(conversations))
    return {text for text, count in seen.items() if count >= least}


def customer_turns(conversations: Sequence[Conversation]) -> list[CustomerTurn]:
    """Every customer turn in order, with whether it may carry a wish.

    The input was chosen by somebody and all turns carry where fewer than 15% of the turns look empty and a conversation
    has fewer than two customer turns on average, and where conversations are cut down to one turn each (at most 1.05
    on average): nobody's chats are, and what a short turn is about was decided by who cut them.
    """
    mass = _mass_messages(conversations)
    found: list[CustomerTurn] = []
    for conversation in conversations:
        opening = True
        for number, text in conversation.customer_turns:
            rest = core(text)
            carries = _specific(rest, opening) and text not in mass and not _MARKUP.search(text)
            opening = opening and not rest
            before = conversation.turns[max(0, number - _BEFORE) : number]
            found.append(CustomerTurn(conversation.conversation_id, number, text, rest or text, carries, before))
    empty = sum(not turn.carries for turn in found)
    talking = len({turn.conversation_id for turn in found})
    few_empty = empty < _CHOSEN_BEFORE * len(found) and len(found) < _CHOSEN_TURNS * talking
    chosen = few_empty or len(found) <= _SINGLE_TURNS * talking
    if chosen or empty == len(found):
        return [replace(turn, carries=True) for turn in found]
    return found
