"""Sums of money in a turn and what stands around them: `二十万`, `20w`, `一百来万`, `50-80万`, `五万美金`, `100k`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jobs.reading.numerals import ARABIC, CHINESE, DIGITS, NUMBER, parse_number
from jobs.reading.script import plain

DEFAULT_CURRENCY = "CNY"

_SCALES = {"千万": 1e7, "百万": 1e6, "亿": 1e8, "万": 1e4, "w": 1e4, "千": 1e3, "k": 1e3, "m": 1e6, "million": 1e6}
_CURRENCIES = {
    "USD": ("美金", "美元", "美刀", "刀", "usd", "us$", "$", "dollars", "dollar"),
    "EUR": ("欧元", "欧", "eur", "€", "euros", "euro"),
    "GBP": ("英镑", "镑", "gbp", "£", "pounds"),
    "HKD": ("港币", "港元", "港纸", "hkd", "hk$"),
    "JPY": ("日元", "日币", "円", "jpy"),
    "AUD": ("澳币", "澳元", "澳刀", "aud"),
    "CAD": ("加币", "加元", "加刀", "cad"),
    "SGD": ("新币", "新元", "坡币", "sgd"),
    "CNY": ("人民币", "块钱", "块", "元", "蚊", "rmb", "cny", "¥", "￥", "yuan"),
}
_ISO = {word: code for code, words in _CURRENCIES.items() for word in words}


def _any(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_APPROX = "(?:多|来|余|把)?"
# 美元20万: words that stand before a sum too; the short ones (块, 元, 刀, 欧) belong to what is before them.
_MARKS = [word for word in _ISO if not re.fullmatch("块钱|[一-鿿]", word)]
_DIGIT = f"[{DIGITS}几1-9]"
_MIXED = "(?:[1-9][千百十]){1,3}[1-9]?(?=[万亿])"  # 1千2百(万)
# What follows a scale and is smaller: 三万[五千], 3万[5千8], 两万[零五百], 一亿[两千万].
_BELOW = (
    rf"(?:(?<=[万w])[零〇]?{_DIGIT}{{1,2}}千(?:[零〇]?{_DIGIT}百)?|(?<=[万w千k])[零〇]?{_DIGIT}百)"
    rf"(?:[零〇]?{_DIGIT}?十)?[零〇]?{_DIGIT}?(?![0-9十百千万亿])"
    rf"|(?<=亿)[零〇]?(?:{NUMBER})(?:千万|百万|万)"
)
_SUM = re.compile(
    rf"(?<![0-9A-Za-z.])(?<![0-9][,，])(?P<mark>(?:{_any(_MARKS)})\s?)?"
    rf"(?:(?P<low>{NUMBER})\s?(?P<lowscale>[万千wk亿])?\s?(?:-|–|—|~|～|到|至)\s?)?"
    rf"(?P<number>{_MIXED}|{NUMBER}){_APPROX}"
    rf"(?:\s?(?:个\s?)?(?P<scale>千万|百万|million|亿|万|w(?![a-z])|千|k(?![a-z])|m(?![a-z]))"
    rf"(?:(?P<below>{_BELOW})|(?P<tail>[一二三四五六七八九](?![十百千万亿])|[1-9](?![0-9.十百千万亿])))?{_APPROX})?"
    rf"(?:\s?(?P<currency>{_any([w for w in _ISO if not w.endswith('$') and w not in '€£¥￥'])}))?",
    re.IGNORECASE,
)
# 八十个, 300个: ten-thousands among business people, when no counted thing follows.
_IDIOM = re.compile(
    rf"(?<![0-9A-Za-z.第])(?P<number>{ARABIC}|{CHINESE})个(?=\s|[，。,.!！?？、…]|$|是吧|吧|呢|嘛|整|全|打|起|的?资金)"
)
_NOT_MONEY_AFTER = re.compile(
    r"^(?:年|月|日|号|天|周|岁|点|%|％|个|人|次|户|份|股|期|楼|栋|平|米|公里|里路|步|字|分钟|小时|倍|成|折|斤|克|度|张|名|只|后[^续]|期权)"
)
# What a customer names without meaning the pot of money.
_OTHER_BEFORE = re.compile(
    r"(?:尾号|限购|限额|上限|门槛|起购|手续费|服务费|管理费|年费|保费|违约金|免赔额?|税(?!后)|亏|跌了?|蚀|赔了?|赚了?|涨了?|省了?|差(?!不多)了?|扣了我?|罚|利息|收益|房贷|月供|"
    r"规模|净值|花了?|报销|租金?|欠|罚款|送|抵扣?|报|便宜|贵了?)[^，。,;；!！?？\s0-9]{0,4}$"
    r"|(?:工资|退休金|月薪|年薪|底薪)(?:是|有|才|也?就)?\s?$"
)
_OTHER_AFTER = re.compile(
    r"^(?:多|左右)?(?:块钱?|元)?(?:的)?(?:限额|手续费|管理费|保费|利息|工资|学区|以内秒|免赔|起购|起投|起的|起存|门槛|不够看|不够塞|都不够|限购)"
)
_TOTAL_BEFORE = re.compile(
    r"(?:首付|保额|一共|总共|总计|目标|本金|全包|预算|算了|算下来)[^，。,;；!！?？\s]{0,6}$|(?:这|那)$"
)
_PURPOSE_BEFORE = re.compile(
    r"(?:额度|学费|准备|拿|放|存|投|攒|手上|手里|手头|到手|大概|这笔|那笔|闲钱|打算|想|先|还有|剩下?|添|搁|凑|有|换|做|买)"
    r"[^，。,;；!！?？\s]{0,6}$"
)
_PURPOSE_AFTER = re.compile(
    r"^(?:多|左右|块钱?|元|的|的样子)?(?:就行|就够|够了|不动|别动|打底|闲钱|额度|保额|放|存|搁|留|那种|进去|试水|想|要|先|现金|存款|将来|以后|囫囵)"
)
_ALONE_AFTER = re.compile(r"^(?:块钱?|元)?(?:[，。,.、\s]|$)")
_REJECTED_AFTER = re.compile(r"^(?:才够|太多|太少|拿不出|都没有)")
# Money that is not there, or was named by mistake: 没有三十万, 不放五十万了, 要是有一百万就好了, 不是三十万是五十万.
_LACKED_BEFORE = re.compile(r"(?<!有)没有\s?$|不再?[放存投买]\s?$|[拿凑]不[出齐]来?\s?$")
_NEEDED_AFTER = re.compile(r"^(?:块钱?|元)?(?:根本|可)?[^，。,;；\s]?不")  # 没有一百万下不来 names what it takes
_WISHED_BEFORE = re.compile(r"(?:要是|如果|假如)[^，。,;；]{0,6}有\s?$")
_WISHED_AFTER = re.compile(r"^(?:块钱?|元)?[，, ]?(?:该|那)?(?:多好|就好)")
_MISTAKEN = re.compile(r"不是\s?$")
_CORRECTED_AFTER = re.compile(r"^(?:块钱?|元)?[，, ]?(?:而是|是)")
_PERIOD = r"(?:每个?(?:月|周|星期|礼拜|季度?|年)|按月|月月|(?<![头第])一个月|逐月|定投|月缴)"
_PERIODIC_BEFORE = re.compile(
    rf"{_PERIOD}(?:[^。;；!！?？0-9]|[0-9]{{1,2}}[号日]){{0,14}}$|(?<![头第])(?:一年|年缴|年交)[^，。;；!！?？\s]{{0,6}}$"
)
_PERIODIC_AFTER = re.compile(r"^(?:块钱?|元)?\s?(?:/|每|一个?)\s?(?:月|周|年|礼拜|星期|month|week)")
_PERIODIC_SAVING = re.compile(r"(?:按月|每月|每周|定期|定投)[^。，；]{0,6}(?:投|存|扣|攒|储)")
_MOVE_BEFORE = re.compile(
    r"(?:投|扣走?我?|存|转|放|拿|打|攒|交|划|定投|各|每个?月|每周|save|invest|put|deposit)\s?$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of money and where it stands: `cue` is how much speaks for (or against) it being the pot."""

    value: float
    currency: str
    said: str
    start: int
    periodic: bool
    cue: float


def saves_periodically(definition: str) -> bool:
    """Whether a tag's definition speaks of a fixed sum a period (then the sum of one period is its amount)."""
    return _PERIODIC_SAVING.search(plain(definition)) is not None


_TO_CHINESE = str.maketrans("123456789", "一二三四五六七八九")


def _mixed(text: str) -> float | None:
    """The value of a numeral where 1千2百 stands for 一千二百."""
    return parse_number(text if re.fullmatch(ARABIC, text) else text.translate(_TO_CHINESE))


def _below(text: str) -> float | None:
    """The value of what follows a scale: `五千`, `零五百`, `5千8`, `两千万`."""
    text = text.lstrip("零〇")
    scale = next((word for word in ("千万", "百万", "万") if text.endswith(word)), "")
    number = _mixed(text.removesuffix(scale))
    return number * _SCALES.get(scale, 1.0) if number is not None else None


def _value(match: re.Match[str]) -> float | None:
    number = _mixed(match["number"])
    if number is None:
        return None
    scale = _SCALES[match["scale"].lower()] if match["scale"] else 1.0
    value = number * scale
    if match["tail"] and scale >= 1e3:
        digit = parse_number(match["tail"])
        value += (digit or 0.0) * scale / 10  # 一万二, 1万2
    if match["below"]:
        value += _below(match["below"]) or 0.0
    if match["low"]:
        low = parse_number(match["low"])
        if low is None:
            return None
        low_scale = _SCALES[match["lowscale"].lower()] if match["lowscale"] else scale
        value = (low * low_scale + value) / 2
    return value


def _is_sum(match: re.Match[str], before: str, value: float) -> bool:
    if match["scale"] or match["currency"] or match["mark"]:
        # 一块, 两元, 五千 as counts are seldom the pot; a scale or a currency is enough from a hundred on.
        return value >= 100
    if re.fullmatch(ARABIC, match["number"]):
        round_sum = 10_000 <= value < 1e9 and value % 1000 == 0
        return round_sum or (value >= 100 and _MOVE_BEFORE.search(before) is not None)
    if not any(unit in match["number"] for unit in "百千"):
        return False
    # 一百二 may be hundreds or, in talk of houses, ten-thousands: a bare hundred needs a verb that moves money.
    return value >= 1000 or (value >= 100 and _MOVE_BEFORE.search(before) is not None)


def _is_unreal(before: str, after: str) -> bool:
    return bool(
        (_LACKED_BEFORE.search(before) and not _NEEDED_AFTER.match(after))
        or (_WISHED_BEFORE.search(before) and _WISHED_AFTER.match(after))
        or (_MISTAKEN.search(before) and _CORRECTED_AFTER.match(after))
    )


def _cue(before: str, after: str) -> float:
    if _OTHER_BEFORE.search(before) or _OTHER_AFTER.match(after) or _is_unreal(before, after):
        return -8.0
    cue = 2.0 if _TOTAL_BEFORE.search(before) else 0.0
    if _PURPOSE_BEFORE.search(before):
        cue += 1.0
    if _PURPOSE_AFTER.match(after) or (not before and _ALONE_AFTER.match(after)):
        cue += 1.0  # alone at the head of a turn it answers the advisor's question
    if _REJECTED_AFTER.match(after):
        cue -= 2.0
    return cue


def _make(match: re.Match[str], text: str, value: float, currency: str) -> Sum:
    before, after = text[max(0, match.start() - 24) : match.start()], text[match.end() : match.end() + 16]
    said = match.group(0).strip()
    periodic = bool(_PERIODIC_BEFORE.search(before) or _PERIODIC_AFTER.match(after))
    return Sum(value, currency, said, match.start(), periodic, _cue(before, after))


def find_sums(text: str) -> list[Sum]:
    """Every sum of money in a turn, in order; ids, dates, rates and counts are left out."""
    found: list[Sum] = []
    for match in _SUM.finditer(text):
        before, after = text[max(0, match.start() - 12) : match.start()], text[match.end() : match.end() + 8]
        value = _value(match)
        if value is None or not _is_sum(match, before, value):
            continue
        if not match["currency"] and _NOT_MONEY_AFTER.match(after):
            continue
        word = (match["currency"] or match["mark"] or "").strip().lower()
        found.append(_make(match, text, value, _ISO.get(word, DEFAULT_CURRENCY)))
    for match in _IDIOM.finditer(text):
        number = parse_number(match["number"])
        if number is not None and number >= 30:
            found.append(_make(match, text, number * 1e4, DEFAULT_CURRENCY))
    return sorted(found, key=lambda item: item.start)
