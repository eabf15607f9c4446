"""Words of a text, Chinese or not, for lexical features and keywords."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

HAN = re.compile("[\u3400-\u9fff]")
_LATIN_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    import jieba

    jieba.setLogLevel(logging.ERROR)
    segmenter = jieba.Tokenizer()
    segmenter.initialize()
    return segmenter


@lru_cache(maxsize=1)
def _tagger() -> Any:
    from jieba.posseg import POSTokenizer

    return POSTokenizer(_segmenter())


def tagged(text: str) -> list[tuple[str, str]]:
    """Words of a text that holds Chinese, in order, with jieba's part of speech (ICTCLAS letters); nothing left out."""
    return [(pair.word, pair.flag) for pair in _tagger().cut(text.lower())]


def words(text: str) -> list[str]:
    """Lower-case words of `text` in order: jieba's segments where it holds Chinese, letter runs elsewhere.

    Numbers and punctuation are left out: they name no wish.
    """
    text = text.lower()
    if not HAN.search(text):
        return _LATIN_WORD.findall(text)
    found: list[str] = []
    for piece in _segmenter().cut(text):
        found += _LATIN_WORD.findall(piece)
    return found


def words_and_pairs(text: str) -> list[str]:
    """`words` and the pairs of neighbouring words, joined by a space."""
    single = words(text)
    return single + [f"{a} {b}" for a, b in pairwise(single)]
