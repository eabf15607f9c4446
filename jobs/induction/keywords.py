"""Names by keywords: what a group says more often than the others do.

Class-based TF-IDF (Grootendorst 2022, "BERTopic", arXiv:2203.05794, section 3.3): the turns of a group are one
document; a term weighs its share there times log(1 + average words a group / its count over all groups). Terms are
content words and what they stand beside: a verb with its object names a wish better than either.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from jobs.induction.words import HAN, tagged, words

# Verbs and nouns by part of speech that carry no wish: modal, light and phatic ones, and words for "thing" and "now".
_CHINESE_WORDS = """
想 要 能 会 可以 可能 应该 需要 帮 帮忙 让 叫 给 到 去 来 过来 过去 看 看看 说 说话 讲 问 问问 问下 知道 觉得 听 喂
有 没有 没 是 在 得 行 像 算 搞 弄 做 用 变 成 开始 进去 出来 下来 起来 上去 不能 不会 不用 不要 不到 不了 不行 不敢
麻烦 请 谢谢 请问 不好意思 意思 东西 事 事情 问题 时候 情况 样子 地方 人 人家 自己 大家 家 点 话 头 一下 一点 有点
有没有 是不是 怎么办 感觉 以为 希望 打算 准备 考虑 就是说 这样 那样 没事 好 大 小 多 少 高 低 长 短 新 老 对 差 快
慢 早 晚 急 真 假 你好 您好
"""
_CHINESE_WORDS += """
差不多 还有 就行 晓得 到时候 看到 得到 有时候 正好 经理 听说 接下来 不准 看着 无所谓 剩下 重新 说个 样办 开个 刚才 上回
拜拜
"""
_CHINESE_LIGHT = frozenset(_CHINESE_WORDS.split())
# Characters that only function words of written Cantonese hold; jieba takes them for nouns and verbs.
_CANTONESE = re.compile("[唔嘅咗喺啲嗰咩乜冇係俾畀喎囉㗎嚟咁噉哋佢嘢咪嚿揾晒啱嘥諗]")
# How people are called: a surname with a familiar word, which redaction leaves where it cannot know it for a name.
_ADDRESS = re.compile("^(?:[小老][陆何林许孙王张李刘周吴郑赵杨陈黄徐朱马胡郭罗梁宋谢唐]|.[姐哥总])$")
_NOUN = re.compile(r"^(?:n(?!r)|vn|an|l|i|j|eng)")
_VERB = re.compile(r"^v(?!n)")
_ADJECTIVE = re.compile(r"^a(?!n)")
# Between a verb and its object: particles, numbers, measure words, pronouns.
_PASSED_OVER = re.compile(r"^(?:u|m|q|r|y|k)")
_SPOKEN_STOP_WORDS = """
hi hello hey yes yeah okay ok um uh mhm please thanks thank want need like wanna gonna know help let let's
i'm i'd i've i'll it's can't don't didn't couldn't what's that's you're calling wondering looking trying
"""
_ENGLISH_STOP_WORDS = ENGLISH_STOP_WORDS | frozenset(_SPOKEN_STOP_WORDS.split())
_DETERMINER_WORDS = "a an the my our your his her their this that these those some any"
_DETERMINERS = frozenset(_DETERMINER_WORDS.split())
_JOINED = frozenset({"VN", "NV", "NN", "AN", "WW"})
_PAIR_WEIGHT = 1.5


def _roles(text: str) -> Iterator[tuple[str, str]]:
    """Words with what they can be in a term: N, V, A, W (a word of another language), "-" passed over, "" none."""
    if not HAN.search(text):
        for word in words(text):
            if word in _DETERMINERS:
                yield word, "-"
            else:
                yield word, "" if len(word) < 2 or word in _ENGLISH_STOP_WORDS else "W"
        return
    for word, flag in tagged(text):
        if _PASSED_OVER.match(flag):
            yield word, "-"
        elif word in _CHINESE_LIGHT or _CANTONESE.search(word) or _ADDRESS.match(word) or word in _ENGLISH_STOP_WORDS:
            yield word, ""
        elif _VERB.match(flag):
            yield word, "V"
        elif _ADJECTIVE.match(flag):
            yield word, "A"
        else:
            yield word, "N" if _NOUN.match(flag) and any(c.isalpha() for c in word) else ""


@lru_cache(maxsize=32_768)
def content_terms(text: str) -> tuple[str, ...]:
    """Content words of two letters or characters and more, and pairs such as verb and object.

    A Chinese character alone says too little; beside another word it counts. Pairs are joined as the language writes
    them. Kept by text: parts of speech take a millisecond a turn, and groups are described more than once.
    """
    found: list[str] = []
    before, role_before = "", ""
    for word, role in _roles(text):
        if role == "-":
            continue
        if role and len(word) > 1:
            found.append(word)
        if role and role_before and role_before + role in _JOINED:
            found.append(before + ("" if HAN.search(before + word) else " ") + word)
        before, role_before = word, role
    return tuple(found)


def group_keywords(texts: Sequence[str], labels: Sequence[int], most: int = 10) -> list[list[str]]:
    """The strongest terms of each group 0..k-1, best first; a term within a stronger one is left out."""
    counts = [Counter[str]() for _ in range(max(labels) + 1)]
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(set(content_terms(text)))
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    average = max(1.0, sum(total.values()) / len(counts))
    return [_strongest(count, total, average, most) for count in counts]


def _is_pair(term: str) -> bool:
    return " " in term or (len(term) > 2 and bool(HAN.search(term)))


def _strongest(count: Counter[str], total: Counter[str], average: float, most: int) -> list[str]:
    size = max(1, sum(count.values()))
    # What a single turn says is no keyword of a group, unless nothing is said twice.
    repeated = {term: n for term, n in count.items() if n > 1} or dict(count)
    weights = {
        term: n / size * math.log(1 + average / total[term]) * (_PAIR_WEIGHT if _is_pair(term) else 1.0)
        for term, n in repeated.items()
    }
    chosen: list[str] = []
    for term in sorted(weights, key=lambda t: (-weights[t], t)):
        if not any(term in other or other in term for other in chosen):
            chosen.append(term)
        if len(chosen) == most:
            break
    return chosen
