"""A conversation as the prompt shows it: untrusted text that cannot leave its place, in lines that fit a window.

Each turn is one line, numbered by us, between two markers. A turn can forge neither a line (its line breaks become
spaces) nor a marker nor a chat template's control token such as `<|im_end|>` or `[INST]` (angle and square brackets
become their full-width look-alikes, which NFKC folds back when quotes are verified).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.conversation import CUSTOMER, Conversation, Spoken

OPENING, CLOSING = "<conversation>", "</conversation>"
_NEUTRAL = str.maketrans({"<": "＜", ">": "＞", "[": "［", "]": "］", "\ufeff": None})
_SPACES = re.compile(r"\s+")
_CLAUSE_ENDS = re.compile(r"[，。！？；、…~,.!?;]+| (?![a-zA-Z])")
_NAMES = {"zh": ("客户", "顾问", "："), "en": ("Customer", "Agent", ": ")}
_NARROW_TOKENS = 1 / 3
LINE_TOKENS = 6
"""What a line costs beside its text: number, speaker, line break."""


@dataclass(frozen=True, slots=True)
class Line:
    """A turn, or a part of a long one, as a line of the prompt: `said` as it stands there, `tokens` estimated.

    `cut`: the rest of the turn is left out.
    """

    turn: int
    customer: bool
    said: str
    tokens: float
    cut: bool


def one_line(text: str) -> str:
    """Text of a turn on one line, without control characters, brackets neutralised."""
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return _SPACES.sub(" ", "".join(kept)).strip().translate(_NEUTRAL)


def passages(spoken: Spoken, longest: int, most: int) -> tuple[str, ...]:
    """Clauses of the customer's turns, each at most `longest` characters, the first `most` different ones."""
    found: dict[str, None] = {}
    for _, text in spoken.customer_turns:
        line = one_line(text)
        clauses = [clause for clause in _CLAUSE_ENDS.split(line) if len(clause) > 1] or [line]
        found |= dict.fromkeys(clause[:longest].strip() for clause in clauses if clause.strip())
    return tuple(found)[:most]


def most_tokens_a_char(per_wide_char: float) -> float:
    """What the dearest character costs in `estimate_tokens`."""
    return max(per_wide_char, _NARROW_TOKENS)


def estimate_tokens(text: str, per_wide_char: float) -> float:
    """Rough number of tokens: `per_wide_char` for each character beyond Latin, a third for each other one."""
    wide = sum(1 for c in text if ord(c) >= 0x2E80)
    return wide * per_wide_char + (len(text) - wide) * _NARROW_TOKENS


def _fitting(text: str, tokens: float, per_wide_char: float) -> int:
    """How many characters of `text` cost at most `tokens`; at least one, so that cutting comes to an end."""
    low, high = 1, max(1, min(len(text), int(tokens / min(per_wide_char, _NARROW_TOKENS)) + 1))
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle], per_wide_char) <= tokens:
            low = middle
        else:
            high = middle - 1
    return low


def _pieces(text: str, longest: float, per_wide_char: float) -> Iterator[str]:
    while estimate_tokens(text, per_wide_char) > longest:
        end = _fitting(text, longest, per_wide_char)
        yield text[:end]
        text = text[end:]
    yield text


def lines(conversation: Conversation, longest: float | None, most_agent: float, per_wide_char: float) -> list[Line]:
    """The turns as lines.

    What a customer says is never left out: a turn of more than `longest` tokens (None: no limit) becomes several lines
    with the same turn number. The agent's side is context: of a turn of more than `most_agent` tokens, a pasted
    article, only the beginning is shown.
    """
    found: list[Line] = []
    for number, turn in enumerate(conversation.turns):
        text, customer = one_line(turn.text), turn.speaker == CUSTOMER
        most = longest if customer else most_agent
        pieces = [text] if most is None else list(_pieces(text, most, per_wide_char))
        cut = not customer and len(pieces) > 1
        for piece in pieces[:1] if cut else pieces:
            found.append(Line(number, customer, piece, estimate_tokens(piece, per_wide_char) + LINE_TOKENS, cut))
    return found


def shown(some: Sequence[Line], language: str) -> str:
    """Lines between their markers, as the last message has them."""
    customer, agent, colon = _NAMES.get(language, _NAMES["en"])
    texts = (f"{line.turn} {customer if line.customer else agent}{colon}{line.said}" for line in some)
    return "\n".join([OPENING, *texts, CLOSING])
