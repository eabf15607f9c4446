"""Redaction of names, phones, identity numbers, cards, e-mail and street addresses in Chinese and English chats.

Numbers are found by pattern and then checked: Luhn for cards, ISO 7064 for identity numbers (both python-stdnum),
numbering plans for phones (phonenumbers). A number that fails its check but is as long as one is redacted all the
same: customers mistype, and a leaked digit string costs more than a lost one. `\\w` and `\\d` match Chinese and
full-width characters, so all classes are spelled out in ASCII after a length-preserving width normalisation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import phonenumbers
from stdnum import luhn
from stdnum.cn import ric

from jobs.conversation import Conversation
from jobs.privacy.names import name_patterns

PHONE, ID_NUMBER, CARD, NUMBER, EMAIL, ADDRESS, NAME, ACCOUNT = (
    "[电话]",
    "[证件号]",
    "[卡号]",
    "[号码]",
    "[邮箱]",
    "[地址]",
    "[姓名]",
    "[账号]",
)

# Full-width letters, digits and a few signs to ASCII, one for one, so that offsets do not move.
_WIDTH = {
    code: code - 0xFEE0
    for code in range(0xFF01, 0xFF5F)
    if chr(code - 0xFEE0).isalnum() or chr(code - 0xFEE0) in "@+-."
}

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_DIGITS = re.compile(r"(?<![0-9])(?<![0-9]\.)(\+?[0-9](?:[ \-]?[0-9]){6,22}(?:[ \-]?[Xx](?![A-Za-z]))?)(?![0-9])")
_DIGITS_ALONE = re.compile(rf"(?<![A-Za-z.]){_DIGITS.pattern}")
# "1.6222…" is the first of a list, 3.1415… a decimal: after a point only what is surely a card or an identity number.
_LISTED = re.compile(
    r"(?<=[0-9]\.)(?<!(?<![0-9])0\.)([1-9][0-9]{3}(?:[ \-]?[0-9]){11,15}(?:[ \-]?[Xx](?![A-Za-z]))?)(?![0-9])"
)
_AREA_CODE = re.compile(r"[(（]0[1-9][0-9]{1,2}[)）][ \-]?[0-9]{7,8}(?![0-9])")
# Whatever stands before it: "1.138…", "V138…"; written with dots as well.
_MOBILE = re.compile(r"(?<![0-9])1[3-9][0-9]([ .\-]?)[0-9]{4}\1[0-9]{4}(?![0-9])")
_ID_SHAPE = re.compile(r"[1-8][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]")
# After a hyphen it may be a piece of a longer number.
_DATE = re.compile(r"(?<![0-9])(?<![0-9]-)((?:19|20)[0-9]{2}-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01]))(?![0-9])")
_SPELLED = re.compile(
    r"(?<![零〇一幺二两三四五六七八九])[零〇一幺二三四五六七八九](?:[ 、,，]?[零〇一幺二三四五六七八九]){10,18}"
)
# Passports, permits for Hong Kong, Macau and Taiwan, and the identity cards of Hong Kong and Taiwan.
_PAPER = re.compile(
    r"(?<![0-9A-Za-z])(?:[CEGHKMPSTL][0-9]{8}|[HM][0-9]{10}|(?:[CEK][A-HJ-NP-Z]|M[AB]|[DSP]E)[0-9]{7}|[A-Z][1289][0-9]{8}"
    r"|[A-Z]{1,2}[0-9]{6}[(（][0-9A][)）])(?![0-9A-Za-z])"
)
_PAPER_ALONE = re.compile(r"(?<![0-9A-Za-z])[EGHMPS][0-9]{8}(?![0-9A-Za-z])")
_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][ ·•・]?"
    r"(?:(?=(?:[A-HJ-NP-Z]*[0-9]){3})[0-9A-HJ-NP-Z]{4}[0-9A-HJ-NP-Z学警挂港澳]|[DF][0-9A-HJ-NP-Z][0-9]{4}|[0-9]{5}[DF])"
    r"(?![0-9A-Za-z])"
)
_WECHAT = r"(?:微信号?|薇信|v信|(?<![a-z])(?:wechat|vx|wx))"
_QQ = r"(?<![a-z])qq号?"
# With "is" or a colon anything may be an account; without, what looks like one: 微信 also pays and logs in.
_ACCOUNT = re.compile(
    rf"((?:{_WECHAT}|{_QQ})\s*(?:id|是|[:：])\s*)[a-z0-9_\-]{{5,30}}"
    rf"|({_WECHAT}\s*)(?=[a-z\-]{{1,19}}[0-9_])[a-z][a-z0-9_\-]{{5,19}}"
    rf"|({_QQ}\s*)[1-9][0-9]{{4,10}}(?![0-9])",
    re.IGNORECASE | re.ASCII,
)
_ADDRESS = re.compile(
    r"[一-鿿]{2,6}(?:路|街|大道|巷|弄|胡同)[0-9A-Za-z一二三四五六七八九十百]{1,6}(?:号|弄)"
    r"(?:[一-鿿]{0,8}?[0-9A-Za-z一二三四五六七八九十]{1,6}(?:号楼|栋|幢|座|单元|层|室|号|户)){0,4}(?:[0-9]{1,5})?"
    r"|[一-鿿]{2,8}(?:小区|花园|公寓|苑|里)[0-9A-Za-z一二三四五六七八九十]{1,4}(?:号楼|栋|幢|座)"
    r"(?:[0-9A-Za-z一二三四五六七八九十]{1,5}(?:单元|室|号|层)){0,3}[0-9]{0,5}"
)


def _is_identity(number: str) -> bool:
    """Whether a mainland identity number keeps its rules."""
    try:
        return bool(ric.is_valid(number))
    except KeyError:  # of a place that python-stdnum knows in part it looks up a county that is not there
        return False


def _classify_listed(run: str) -> str | None:
    """The token for a run of digits after "1.": a number fits its scheme exactly, or it may be a decimal."""
    digits = re.sub(r"[ \-]", "", run)
    if _is_identity(digits.upper()) or _ID_SHAPE.fullmatch(digits):
        return ID_NUMBER
    card = re.fullmatch("62[0-9]{14,17}", digits) or (
        re.fullmatch("[3-6][0-9]{15,18}", digits) and luhn.is_valid(digits)
    )
    return CARD if card else None


def _classify(run: str) -> str | None:
    """The token for a run of digits with separators, or None where it is only a number (an amount)."""
    bare = re.sub(r"[ \-]", "", run)
    digits = bare.lstrip("+")
    if len(digits) == 18 and (_is_identity(digits.upper()) or re.match(r"[1-8][0-9]{5}(?:19|20)[0-9]{2}", digits)):
        return ID_NUMBER
    if digits[-1] in "Xx":
        return ID_NUMBER if len(digits) >= 15 else None
    mobile = re.sub(r"^(?:\+?0{0,2}86)", "", bare)
    if re.fullmatch(r"1[3-9][0-9]{9}", mobile):
        return PHONE
    if 13 <= len(digits) <= 19 and luhn.is_valid(digits):
        return CARD
    landline = re.match(r"0[1-9][0-9]{1,2}[ \-]?[0-9]{7,8}$", run)
    if landline or bare.startswith("+"):
        try:
            number = phonenumbers.parse(bare, "CN")
        except phonenumbers.NumberParseException:
            return NUMBER if len(digits) >= 15 else None
        if phonenumbers.is_valid_number(number):
            return PHONE
    return NUMBER if len(digits) >= 14 else None


def redact(text: str, names: Iterable[str] = ()) -> tuple[str, Counter[str]]:
    """Replace personal data in one text.

    Args:
        text: any text.
        names: names known for this conversation (the customer's, the advisor's), replaced wherever they stand.

    Returns:
        The text with `[电话]`, `[证件号]`, ... in the place of personal data, and how often each was put in.
    """
    counts: Counter[str] = Counter()
    text = text.translate(_WIDTH)

    def put(token: str, kept: str = "") -> str:
        counts[token] += 1
        return kept + token

    def number(match: re.Match[str]) -> str:
        run = match.group(1)
        if _DATE.search(run) and not _is_identity(re.sub(r"[ \-]", "", run).upper()):
            # A date is set aside, or a phone beside it would pass for a part of it.
            return "".join(part if at % 2 else _DIGITS.sub(number, part) for at, part in enumerate(_DATE.split(run)))
        token = _classify(run)
        return put(token) if token else run

    text = _EMAIL.sub(lambda m: put(EMAIL), text)
    text = _AREA_CODE.sub(lambda m: put(PHONE), text)
    text = _LISTED.sub(lambda m: put(token) if (token := _classify_listed(m.group(1))) else m.group(), text)
    text = _DIGITS.sub(number, text)
    text = _MOBILE.sub(lambda m: put(PHONE), text)
    text = _SPELLED.sub(lambda m: put(PHONE if len(re.sub(r"[ 、,，]", "", m.group(0))) == 11 else NUMBER), text)
    text = _PAPER.sub(lambda m: put(ID_NUMBER), text)
    text = _PLATE.sub(lambda m: put(NUMBER), text)
    text = _ACCOUNT.sub(lambda m: put(ACCOUNT, next(filter(None, m.groups()))), text)
    text = _ADDRESS.sub(lambda m: put(ADDRESS), text)
    for pattern in name_patterns(name.translate(_WIDTH) for name in names if name):
        text = pattern.sub(lambda m: put(NAME, m.groupdict().get("cue", "")), text)
    return text, counts


def is_personal(identifier: str, names: Iterable[str] = ()) -> bool:
    """Whether an identifier holds or looks like personal data: names, e-mail, phones, cards, identity numbers.

    Stricter than `redact`: in identifiers digits behind letters are mostly dates and counters (WX20261120000123), and
    what merely is as long as a number of that kind counts only where it stands alone.
    """
    text = identifier.translate(_WIDTH)
    if _EMAIL.search(text) or _PAPER_ALONE.search(text) or _MOBILE.search(text):
        return True
    if any(pattern.search(text) for pattern in name_patterns(name.translate(_WIDTH) for name in names if name)):
        return True
    runs = (match.group(1) for match in _DIGITS_ALONE.finditer(text))
    return any(not _DATE.search(run) and _classify(run) is not None for run in runs)


def redact_conversation(conversation: Conversation) -> Conversation:
    """The same conversation with every turn redacted; turn numbers do not move."""
    turns = tuple(replace(turn, text=redact(turn.text)[0]) for turn in conversation.turns)
    return replace(conversation, turns=turns)
