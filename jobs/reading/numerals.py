"""Chinese and Arabic numerals as people say them: `二十`, `三四十`, `十几`, `1.2`, `20,000`."""

from __future__ import annotations

import re

import cn2an

DIGITS = "一二两俩三四五六七八九"
_VALUE = dict(zip("一二两三四五六七八九", (1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_UNITS = "十百千"

# Lengths are bounded so that hostile text takes no more than linear time; nobody's money has more digits.
ARABIC = r"[0-9]{1,3}(?:[,，][0-9]{3}){1,4}(?:\.[0-9]{1,6})?|[0-9]{1,12}(?:\.[0-9]{1,6})?"
CHINESE = rf"[零〇{DIGITS}{_UNITS}几]{{1,9}}(?:点[零〇{DIGITS}]{{1,4}})?"
NUMBER = rf"(?:{ARABIC}|{CHINESE})"

_NEIGHBOURS = re.compile(rf"(.*[{_UNITS}]|)([{DIGITS}])([{DIGITS}])([{_UNITS}]?)")


def _plain(text: str) -> float | None:
    if "点" not in text and len(text) > 1 and not any(unit in text for unit in _UNITS):
        return None  # digits in a row are an id or a year
    try:
        return float(cn2an.cn2an(text, "normal"))
    except ValueError:
        return None


def _vague(text: str) -> str:
    # 几 means more than one: its lower bound leads (几十 is 20), behind a ten it adds nothing (十几 is 10).
    text = re.sub(rf"(?<=[{_UNITS}])几(?![{_UNITS}])", "", text)
    return text.replace("几", "两")


def parse_number(text: str) -> float | None:
    """The value of a numeral; two neighbours in a row (`三四十`) and `三五` are a range and give its middle.

    Returns:
        The number, or None where the characters make none (a spelled-out id, a year).
    """
    text = text.strip()
    if re.fullmatch(ARABIC, text):
        return float(text.replace(",", "").replace("，", ""))
    text = _vague(text.replace("俩", "两").replace("〇", "零"))
    if text[:2] == "三五" and text[2:] in ("", *_UNITS):
        return 4 * (_plain("一" + text[2:]) or 1)
    match = _NEIGHBOURS.fullmatch(text)
    if match and _VALUE[match[3]] == _VALUE[match[2]] + 1:
        low, high = (_plain(match[1] + digit + match[4]) for digit in (match[2], match[3]))
        return None if low is None or high is None else (low + high) / 2
    return _plain(text)
