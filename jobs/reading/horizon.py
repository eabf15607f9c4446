"""When money is needed, in months: durations (`三年`, `半年后`, `3-5年`) and dates told from the day of the talk."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date

from jobs.reading.numerals import NUMBER, parse_number

DAYS_A_MONTH = 30.44
# Without words like 还有 or 以后 a duration counts only in an evidence turn, as a date does; a duration goes first.
_NO_CUE, _DATE_CUE = -3.6, -3.7
_UNIT_MONTHS = {"年": 12.0, "月": 1.0, "周": 7 / DAYS_A_MONTH, "天": 1 / DAYS_A_MONTH}
_DURATION = re.compile(
    rf"(?<![0-9A-Za-z.第每二零])(?:(?:(?:(?P<lowhalf>半年)|(?P<low>{NUMBER})\s?个?(?P<lowunit>年|月)?)(?:-|–|—|~|～|到|至)\s?)?"
    rf"(?P<number>{NUMBER}))"
    r"\s?(?P<more>多|来)?\s?(?P<unit>年|个?半?月|周|个?星期|个?礼拜|天|years?|months?|weeks?)(?P<half>半)?"
    r"|(?<![每上下])(?P<halfyear>半年|半个月)"
)
_PAST_BEFORE = re.compile(
    r"(?:了|过|过去|已经|上|前|最近|近|这|头|都|满|干|每|持有)\s?$|(?:有效|封闭|锁|工龄|等待|开业|结婚|放了|存了|打了|用了|买了|做了)[^，。\s]{0,3}$"
)
_PAST_AFTER = re.compile(
    r"^\s?(?:了(?!再)|(?:1?[0-9]|[一二三四五六七八九十]{1,2})月|前(?!要|得|把|用|交|付)|来[^得]|多了|没|以来|之前买|的人|级|老|是|月|内交|的?费)"
)
_PRODUCT_AFTER = re.compile(
    r"^(?:期(?!的钱|后)|的?定期|的?定存|的?存单|的?大额|的?理财|的?国债|的?存款|的$|的[，。]|型|利率|的利|年化|收益|一[次付交]|给|[0-9一二三四五六七八九]点|"
    r"到手|交|缴|\s?[0-9]+(?:\.[0-9]+)?(?:%|个点)|级)"
)
_RATE_AFTER = re.compile(
    rf"^(?:也?就?能?(?:学费|省|差|赚|挣|花|要|得|才|没个|少说|利息|收入|只有|多)?\s?)(?:{NUMBER})\s?(?:[万千wk块元%％]|个点|多块)|^(?:学费|保费|收入)"
)
_WHEN_BEFORE = re.compile(
    r"(?:还有|再|放|存|投|等|就|大概|差不多|大约|至少|最少|起码|打|攒|离|离退休还?有?|反正|过|提前|需要|先|搁|用|存它|for|in)\s?(?:个)?$",
    re.IGNORECASE,
)
_WHEN_AFTER = re.compile(
    r"^(?:后|以后|之后|过后|左右|内|以内|之内|不动|不用|要用|用|吧|再|就|走|出国|上大学|退休|放|的时间|later|horizon)"
)
_NEVER = re.compile(
    # when something else comes due, or an age of a contract
    r"^[^，。,;；\s]{0,3}(?:到期|到账|到日子|解禁|兑付|发(?:钱|薪|工资|奖|放)|下来)|^(?:的?房贷|的?贷款|工龄|保修|合同|的?账龄)"
)

_MONTH = r"(?P<month>1[0-2]|[1-9]|十[一二]?|[一二三四五六七八九])月(?!供|薪|月|入)"
_DAY = (
    r"(?:份|底|初)?(?P<day>3[01]|[12][0-9]|[1-9]|三十一?|[一二]?十[一二三四五六七八九]?|[一二三四五六七八九])?[号日]?"
)
_SEASONS = r"年?[初底]|开春|春天|上半年|夏天|秋天|年中|下半年|五一|国庆|春节"
# 28年要用 and 28年底 name the year 2028; 28年后, 还有28年 and 30年不动 are durations, and so is every year in Chinese.
_TOLD_YEAR = (
    rf"(?<![0-9.第了过满干有等再存放投])(?:20[2-4][0-9]|[23][0-9])年(?={_SEASONS}"
    r"|(?:就|才|我|孩子|儿子|女儿|可能|大概)?(?:要|得(?!了)|需要|用(?!不)|出国|留学|上大学|高考|开学|毕业|结婚|买房|交房|之?前[要得用交付]))"
)
_TOLD = re.compile(_TOLD_YEAR)
_DATE = re.compile(
    rf"(?P<year>今年|明年|后年|大后年|20[2-4][0-9]年|[23][0-9]年)?\s?(?:{_MONTH}{_DAY})"
    rf"|(?P<yearonly>明年|后年|大后年|{_TOLD_YEAR})(?P<season>{_SEASONS})?"
    r"|(?P<rel>年底|月底|下个?月(?:底|初|中)?|过完年|开春|春节|过年)"
)
_DEADLINE_AFTER = re.compile(
    r"^[^，。,;；!！?？]{0,8}?(?:前|之前|要|用|交|付|走|开学|出国|留学|上学|读|去|入学|开盘|交房|装修|给|得|买房|结)"
)
_SEASON_MONTH = {"年初": 1, "初": 1, "开春": 3, "春天": 4, "上半年": 4, "春节": 2, "五一": 5, "年中": 6, "夏天": 7}
_SEASON_MONTH |= {"秋天": 9, "下半年": 9, "国庆": 10, "年底": 12, "底": 12}
_YEARS = {"今年": 0, "明年": 1, "后年": 2, "大后年": 3}


@dataclass(frozen=True, slots=True)
class Horizon:
    """Months until the money is needed; `cue` is how much speaks for it being that."""

    months: float
    said: str
    start: int
    cue: float


def _duration_months(match: re.Match[str]) -> float | None:
    if match["halfyear"]:
        return 6.0 if match["halfyear"] == "半年" else 0.5
    unit = match["unit"]
    number = parse_number(match["number"])
    if number is None:
        return None
    if unit == "半月" or (unit == "月" and match["number"] not in ("俩", "两", "仨")):
        return None  # 三月 is a month of the year; 俩月 and 两月 are how people say two months
    kind = {"y": "年", "m": "月", "w": "周"}.get(unit[0].lower()) or ("周" if unit[-1] in "期拜" else unit[-1])
    per = _UNIT_MONTHS[kind]
    value = number * per
    if match["half"]:
        value += per / 2
    if "半" in unit:
        value += 0.5
    if match["lowhalf"]:
        value = (6.0 + value) / 2
    if match["low"]:
        low = parse_number(match["low"])
        if low is None or (match["lowunit"] is None and low > number):
            return None
        value = (low * _UNIT_MONTHS[match["lowunit"] or kind] + value) / 2
    return value


def _half_months(months: float) -> float:
    """To the nearest half month, what lies between two to the later one."""
    return int(2 * months + 0.5) / 2


def _durations(text: str) -> list[Horizon]:
    found = []
    for match in _DURATION.finditer(text):
        months = _duration_months(match)
        if months is None or not 0.2 < months <= 720:
            continue
        before, after = text[max(0, match.start() - 10) : match.start()], text[match.end() : match.end() + 10]
        ahead = bool(_WHEN_BEFORE.search(before)) + bool(_WHEN_AFTER.match(after))
        if _TOLD.match(text, match.start()):
            continue
        if _PAST_AFTER.match(after) or _NEVER.match(after) or _RATE_AFTER.match(after):
            continue
        if _PAST_BEFORE.search(before) and not ahead:
            continue
        if _PRODUCT_AFTER.match(after) and not _WHEN_BEFORE.search(before):
            continue
        cue = float(ahead) if ahead else _NO_CUE
        months = _half_months(months) if months >= 1 else round(months, 2)
        found.append(Horizon(months, match.group(0).strip(), match.start(), cue))
    return found


def months_until(on: date, target: date) -> float:
    """Whole months between two days, a half where it is less than a month and more than none."""
    months = (target - on).days / DAYS_A_MONTH
    return max(0.5, float(round(months)))


def _end_of_month(year: int, month: int) -> date:
    return date(year, month, monthrange(year, month)[1])


def _year(word: str, on: date) -> int:
    return on.year + _YEARS[word] if word in _YEARS else 2000 + int(word[-3:-1])


def _target(match: re.Match[str], on: date) -> date | None:
    if match["rel"]:
        return _relative(match["rel"], on)
    if match["yearonly"]:
        year = _year(match["yearonly"], on)
        if match["season"]:
            return date(year, _SEASON_MONTH[match["season"]], 15)
        return date(year, on.month, min(on.day, 28))
    month = int(parse_number(match["month"]) or 0)
    day = int(parse_number(match["day"]) or 0) if match["day"] else 15
    word = match["year"]
    year = _year(word, on) if word else on.year + ((month, day) < (on.month, on.day))
    return date(year, month, min(day, monthrange(year, month)[1]))


def _relative(word: str, on: date) -> date:
    if word == "年底":
        return date(on.year, 12, 31)
    if word == "月底":
        return _end_of_month(on.year, on.month)
    following = (on.year + on.month // 12, on.month % 12 + 1)
    if word.startswith("下"):
        # 下个月 without a day: one month from now.
        return date(*following, min(on.day, 28)) if word[-1] not in "底初" else _end_of_month(*following)
    return date(on.year + (on.month > 2), 2 if word != "开春" else 3, 15)


def _dates(text: str, on: date) -> list[Horizon]:
    found = []
    for match in _DATE.finditer(text):
        target = _target(match, on)
        after = text[match.end() : match.end() + 14]
        if target is None or target <= on or _NEVER.match(after) or not _DEADLINE_AFTER.match(after):
            continue
        found.append(Horizon(months_until(on, target), match.group(0).strip(), match.start(), _DATE_CUE))
    return found


def find_horizons(text: str, on: date | None) -> list[Horizon]:
    """Every horizon in a turn, in order.

    Durations count from the talk, to the nearest half month (`两个半月` is 2.5; a quarter goes up), in parts of
    a month where there is less than one; past ones (`放了三年`), terms of products (`三年定期`) and yearly figures are
    left out. Dates are in whole months, and read only where `on`, the day of the talk, is known. 随时 (at any time)
    is no horizon.
    """
    found = _durations(text)
    if on is not None:
        found += _dates(text, on)
    return sorted(found, key=lambda item: item.start)
