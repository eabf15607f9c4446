"""A conversation longer than the context, in windows of whole turns that overlap.

Turns keep their numbers of the whole conversation, so that evidence needs no mapping back. A window's answers are kept
under the hash of what it shows: a conversation that grows asks only about its last windows again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.conversation import Conversation
from jobs.llm.rendering import Line, lines, shown

_STEPS_A_CONTEXT = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """How a conversation is shown, in tokens as `estimate_tokens` counts them.

    All of it where it fits into `budget`; else in windows of `size` (see `window_size`), each showing again the last
    `overlap` turns of the one before it, as far as they take at most half of it.
    """

    language: str
    budget: float
    size: float
    overlap: int
    tokens_per_wide_char: float


@dataclass(frozen=True, slots=True)
class Window:
    """What one request shows of a conversation: turns `first_turn` to `last_turn`, as `text`.

    `content_hash` is the conversation's own where the window shows all of it. `customer_turns` holds what the customer
    says in it, where quotes are looked for; `cut`: the end of a long turn of the agent's is not shown.
    """

    conversation_id: str
    content_hash: str
    text: str
    first_turn: int
    last_turn: int
    customer_turns: tuple[tuple[int, str], ...]
    cut: bool


def window_size(budget: float, context_length: int) -> float:
    """Tokens of a window: `budget` rounded down to eighths of the context, or to a half, a quarter … of an eighth.

    The budget is what the prompt leaves. Were it taken to the token, each new word in a tag's definition would shift
    every window, and all of them would have to be asked again.
    """
    step = context_length / _STEPS_A_CONTEXT
    while step > budget:
        step /= 2
    return budget // step * step


def _customer_turns(some: Sequence[Line]) -> tuple[tuple[int, str], ...]:
    said: dict[int, str] = {}
    for line in some:
        if line.customer:
            said[line.turn] = said.get(line.turn, "") + line.said
    return tuple(said.items())


def _window(conversation_id: str, some: Sequence[Line], language: str) -> Window:
    text = shown(some, language)
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    cut = any(line.cut for line in some)
    return Window(conversation_id, key, text, some[0].turn, some[-1].turn, _customer_turns(some), cut)


def _before(every: Sequence[Line], start: int, overlap: int, most: float) -> list[Line]:
    """Up to `overlap` lines before `start`, the nearest ones, of at most `most` tokens."""
    kept: list[Line] = []
    for line in reversed(every[max(0, start - overlap) : start]):
        most -= line.tokens
        if most < 0:
            break
        kept.append(line)
    return kept[::-1]


def _cuts(every: Sequence[Line], size: float, overlap: int) -> Iterator[tuple[list[Line], list[Line]]]:
    """(lines of the window before, new lines) of each window."""
    start = 0
    while start < len(every):
        # A line takes a third of a window at most, so half a window of overlap always leaves room for a new one.
        again = _before(every, start, overlap, size / 2)
        left = size - sum(line.tokens for line in again) - every[start].tokens
        end = start + 1
        while end < len(every) and every[end].tokens <= left:
            left -= every[end].tokens
            end += 1
        yield again, list(every[start:end])
        start = end


def windows(conversation: Conversation, shape: Shape) -> tuple[Window, ...]:
    """The windows of a conversation, in its order; one where all of it fits.

    A window in which the customer says nothing new is left out, and so is one that shows what another shows: an endless
    turn may repeat itself. What is left is never empty.
    """
    name, per_wide_char = conversation.conversation_id, shape.tokens_per_wide_char
    every = lines(conversation, None, shape.budget / 3, per_wide_char)
    if sum(line.tokens for line in every) <= shape.budget:
        cut, last = any(line.cut for line in every), len(conversation.turns) - 1
        text = shown(every, shape.language)
        return (Window(name, conversation.content_hash, text, 0, last, conversation.customer_turns, cut),)
    every = lines(conversation, shape.size / 3, shape.size / 3, per_wide_char)
    cuts = _cuts(every, shape.size, shape.overlap)
    found = [(any(line.customer for line in new), [*again, *new]) for again, new in cuts]
    heard = [some for customer, some in found if customer] or [found[0][1]]
    shown_once = dict[str, Window]()
    for some in heard:
        window = _window(name, some, shape.language)
        shown_once.setdefault(window.content_hash, window)
    return tuple(shown_once.values())
