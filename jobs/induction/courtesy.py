"""Words that carry no wish: greetings, thanks, agreement, hesitation, self-introduction; Chinese and English.

A closed class, so a list is honest: it is the same in every business. What is peculiar to one (menus, mass messages,
signatures) is found by counting, in `turns`.
"""

from __future__ import annotations

import re

from jobs.induction.words import HAN

_ENGLISH_WORDS = """
hi hello hey dear good morning afternoon evening night day bye goodbye welcome greetings
yes yeah yea yep yup no nope nah ok okay k alright right sure fine cool great perfect awesome wow nice correct
exactly thanks thank thankyou thx ty you much so very appreciate appreciated cheers
um umm uh uhm hm hmm mhm uh-huh mm-hmm huh oh ah well like just actually basically anyway anyways anyhow
and but or please kindly sir ma'am maam madam miss mister mr mrs there kinda sorry
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_INTRODUCTION = re.compile(
    r"^(?:this is|my name is|my name's|i'm|i am|it's)\s+(?:[A-Z][\w'-]*\s*){1,3}(?:[,.!]|\band\b|\bhere\b|$)\s*"
)
_VOCATIVE = re.compile(r"^[A-Z][a-z]+,\s*")
_HESITATION = re.compile(r"\b(?:um+|uh+|uhm|mhm|hmm|you know,|i mean,)(?:\s*,)?\s+", re.IGNORECASE)
_SENTENCES = re.compile(r"(?<=[.?!])\s+|(?<=[。？！；\n])\s*")
_HAN_COURTESY = re.compile(
    "(?:您好|你好|哈喽|在吗|在不在|在的|早上好|上午好|中午好|下午好|晚上好|早安|晚安|早啊|谢谢|多谢|感谢|辛苦了?|麻烦(?:您|你)?了?|"
    "不好意思|打扰了?|请问(?:一下)?|再见|先这样|挂了|拜拜|好的|好滴|多謝|唔該晒?|唔该晒?|要得|晓得了?|好哒|好吧|好嘞|行的?|可以的?|没问题|没事|不用了?|对的?|是的?|嗯+|哦+|噢+|啊+|"
    "哈+|呵+|收到|知道了|明白了?|了解了?|ok|OK|谢了|客气了?|老师|经理|小姐姐|亲|那个|就是说|这个嘛|您|你|吧|呀|哈|呢|啦|了|哦)"
)
_HAN_EDGE = re.compile(f"^(?:{_HAN_COURTESY.pattern}|[\\s，。！？、~…,.!?]+)+")
_NOT_WORDS = re.compile(r"[^a-z'\-]")
_PLACEHOLDER = re.compile(r"^\s*[\[【〔<][^\]】〕>]{1,20}[\]】〕>]\s*$|\[[^\[\]\n]{1,12}\]")


def _bare(word: str) -> str:
    return _NOT_WORDS.sub("", word.lower())


def _strip_english(sentence: str) -> str:
    for _ in range(2):
        pieces = sentence.split()
        start = 0
        while start < len(pieces) and (_bare(pieces[start]) in _ENGLISH or not _bare(pieces[start])):
            if any(c.isdigit() for c in pieces[start]):
                break
            start += 1
        sentence = _INTRODUCTION.sub("", _VOCATIVE.sub("", " ".join(pieces[start:])))
    return _HESITATION.sub("", sentence).strip()


def core(text: str) -> str:
    """`text` without courtesies around and between its sentences; the empty string where nothing is left.

    A placeholder such as `[图片]`, `[Image]` or what redaction leaves is nothing.
    """
    text = _PLACEHOLDER.sub(" ", text)
    kept: list[str] = []
    for sentence in _SENTENCES.split(text):
        if not sentence or not sentence.strip():
            continue
        left = _HAN_EDGE.sub("", sentence.strip()) if HAN.search(sentence) else _strip_english(sentence)
        if any(c.isalnum() for c in left):
            kept.append(left.strip())
    return " ".join(kept)
