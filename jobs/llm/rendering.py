"""A conversation as the prompt shows it: untrusted text that cannot leave its place, cut to what the model can read.

Each turn is one line, numbered by us, between two markers. A turn can forge neither a line (its line breaks become
spaces) nor a marker nor a chat template's control token such as `<|im_end|>` or `[INST]` (angle and square brackets
become their full-width look-alikes, which NFKC folds back when quotes are verified).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from jobs.conversation import CUSTOMER, Conversation

OPENING, CLOSING = "<conversation>", "</conversation>"
_NEUTRAL = str.maketrans({"<": "＜", ">": "＞", "[": "［", "]": "］", "\ufeff": None})
_SPACES = re.compile(r"\s+")
_CLAUSE_ENDS = re.compile(r"[，。！？；、…~,.!?;]+| (?![a-zA-Z])")
_NAMES = {"zh": ("客户", "顾问", "："), "en": ("Customer", "Agent", ": ")}
_LINE_TOKENS = 6


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of the last message; `turns_shown` counts from the first turn, `cut` tells that some text is missing."""

    text: str
    turns_shown: int
    cut: bool


def one_line(text: str) -> str:
    """Text of a turn on one line, without control characters, brackets neutralised."""
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return _SPACES.sub(" ", "".join(kept)).strip().translate(_NEUTRAL)


def passages(conversation: Conversation, longest: int, most: int) -> tuple[str, ...]:
    """Clauses of the customer's turns, each at most `longest` characters, the first `most` different ones."""
    found: dict[str, None] = {}
    for _, text in conversation.customer_turns:
        line = one_line(text)
        clauses = [clause for clause in _CLAUSE_ENDS.split(line) if len(clause) > 1] or [line]
        found |= dict.fromkeys(clause[:longest].strip() for clause in clauses if clause.strip())
    return tuple(found)[:most]


def estimate_tokens(text: str, per_wide_char: float) -> float:
    """Rough number of tokens: `per_wide_char` for each character beyond Latin, a third for each other one."""
    wide = sum(1 for c in text if ord(c) >= 0x2E80)
    return wide * per_wide_char + (len(text) - wide) / 3


def _cut_to(text: str, tokens: float, per_wide_char: float) -> str:
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle], per_wide_char) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def render(conversation: Conversation, language: str, budget: float, per_wide_char: float) -> Rendered:
    """The conversation between its markers: whole turns from the first on while `budget` tokens last.

    A turn longer than a third of the budget is cut, so that one pasted article does not hide what follows.
    """
    customer, agent, colon = _NAMES.get(language, _NAMES["en"])
    lines: list[str] = []
    left, cut = budget, False
    for number, turn in enumerate(conversation.turns):
        text = one_line(turn.text)
        short = _cut_to(text, budget / 3, per_wide_char)
        cost = estimate_tokens(short, per_wide_char) + _LINE_TOKENS
        if cost > left:
            return Rendered("\n".join([OPENING, *lines, CLOSING]), number, True)
        cut = cut or len(short) < len(text)
        left -= cost
        lines.append(f"{number} {customer if turn.speaker == CUSTOMER else agent}{colon}{short}")
    return Rendered("\n".join([OPENING, *lines, CLOSING]), len(lines), cut)
