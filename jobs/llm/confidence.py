"""How sure the model was of a tag: the probability of its id's tokens, as the server's log-probabilities tell it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_TAG = re.compile(r'"tag"\s*:\s*"((?:[^"\\]|\\.)*)"')


def tag_confidence(text: str, token_logprobs: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Probability of each chosen tag id, the highest where a tag stands twice; empty without log-probabilities.

    It is the product over the id's tokens of P(token | what stands before it). That says how the model weighed this
    tag against others and against stopping, not how often it is right: calibrate it on gold before use.
    """
    spans = [(match.start(1), match.end(1), match.group(1)) for match in _TAG.finditer(text)]
    if not token_logprobs or not spans:
        return {}
    sums = [0.0] * len(spans)
    position = 0
    for token, logprob in token_logprobs:
        end = position + len(token)
        for number, (start, stop, _) in enumerate(spans):
            if position < stop and end > start:
                sums[number] += logprob
        position = end
    best: dict[str, float] = {}
    for (_, _, tag), total in zip(spans, sums, strict=True):
        best[tag] = max(best.get(tag, 0.0), math.exp(min(total, 0.0)))
    return best
