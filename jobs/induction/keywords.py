"""Names by keywords: what a group says more often than the others do.

Class-based TF-IDF (Grootendorst 2022, "BERTopic", arXiv:2203.05794, section 3.3): the turns of a group are one
document; a term weighs its share there times log(1 + average words a group / its count over all groups).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from jobs.induction.words import HAN, words

_CHINESE_STOP_WORDS = """
的 了 我 你 您 他 她 它 是 在 有 和 就 都 也 还 很 吗 呢 吧 啊 呀 嘛 哦 嗯 这 那 这个 那个 一个 一下 一家 什么 怎么
可以 能 会 要 想 去 到 给 把 被 让 对 跟 与 或 但 而 不 没 没有 说 请 请问 帮 帮我 一 个 家 点 下 上 里 们 我们 你们
谢谢 你好 您好 好 好的 是不是 有没有 现在 然后 还是 如果 因为 所以 就是 不是 知道 看看 看 问 问下 多少 哪 哪里 几
"""
_SPOKEN_STOP_WORDS = """
hi hello hey yes yeah okay ok um uh mhm please thanks thank want need like wanna gonna know help let let's
i'm i'd i've i'll it's can't don't didn't couldn't what's that's you're calling wondering
"""
_STOP_WORDS = ENGLISH_STOP_WORDS | set(_CHINESE_STOP_WORDS.split()) | set(_SPOKEN_STOP_WORDS.split())


def _terms(text: str) -> list[str]:
    """Content words and pairs of them that stand side by side."""
    found: list[str] = []
    before = ""
    for word in words(text):
        if word in _STOP_WORDS or (len(word) < 2 and not HAN.search(word)):
            before = ""
            continue
        found.append(word)
        if before:
            found.append(before + ("" if HAN.search(before + word) else " ") + word)
        before = word
    return found


def group_keywords(texts: Sequence[str], labels: Sequence[int], most: int = 10) -> list[list[str]]:
    """The strongest terms of each group 0..k-1, best first; a term within a stronger one is left out."""
    counts = [Counter[str]() for _ in range(max(labels) + 1)]
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(set(_terms(text)))
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    average = max(1.0, sum(total.values()) / len(counts))
    return [_strongest(count, total, average, most) for count in counts]


def _strongest(count: Counter[str], total: Counter[str], average: float, most: int) -> list[str]:
    size = max(1, sum(count.values()))
    weights = {
        # a pair says more than its words, so it weighs half as much again
        term: n / size * math.log(1 + average / total[term]) * (1.5 if " " in term or len(term) > 3 else 1.0)
        for term, n in count.items()
    }
    chosen: list[str] = []
    for term in sorted(weights, key=lambda t: (-weights[t], t)):
        if not any(term in other or other in term for other in chosen):
            chosen.append(term)
        if len(chosen) == most:
            break
    return chosen
