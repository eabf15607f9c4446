"""How much risk a customer wants, and what return: read off one turn."""

from __future__ import annotations

import re

from jobs.reading.numerals import NUMBER, parse_number

LOW, MEDIUM, HIGH = "low", "medium", "high"

_NOT = r"(?:不用|不要|不想|不能|不是|不算|别|没那么|没有那么|不(?!怕|眨))"
_DEGREE = r"(?:太|那么|这么|搞得太|求|给我|整得?太?)*"
_FALL = r"(?:波动|涨涨跌跌|起起伏伏|大起大落|跌|亏|赔|套|腰斩|回撤)"
_ASKED = (
    r"(?<![谁哪么你您])(?<![你他她]们)(?<!是否)(?<!是不是)"  # 谁受得了 asks and denies, 你们能承受 is said of others
)
_CAN = (
    rf"{_ASKED}(?<!不)(?<!不太)(?<!不大)(?<!不怎么)(?<!不一定)(?<!不见得)(?<!未必)(?<!不可)(?<!不是很)(?<!不是太)"
    r"(?:能|可以)"
)
_BEAR = (
    r"(?:没关系|没事|无所谓|不要紧|不怕|不慌|不在乎|不眨眼|不叫|不心疼|不找你|也别来|就当|(?<!不)认"
    rf"|{_ASKED}(?:扛得住|受得了|拿得住|熬得住)|{_CAN}(?:接受|扛)|当打折)"
)
# 能不能 asks and 不是不能 grants: neither denies.
_CANNOT = (
    r"(?:(?<!能)(?<!不是)不能|不(?:太|大|怎么|是很|是太|一定|见得|可)能|(?<!可)(?<!不是)不可以|不(?:太|大)可以"
    r"|不(?:太|大|是很)?(?:敢|想|愿意?)|不打算|无法|没法|没办法|难以|很难|未必能|(?:哪里?|怎么|谁)能)"
)
_HOW_MUCH = "的?(?:多[大少高]|什么|哪)"
# 能承受风险吗 asks what 能承受风险 would say; a wish may be put as a question, 能激进一点吗 stays one.
_QUESTION = re.compile(r"[^，。,;；!！?？\s]{0,2}(?:吗|[么不没](?=[?？，。\s]|$))|[的了呢啊]?[?？]")
_NOT_EN = r"(?:\b(?:no|not|never|avoid|without|cannot)|n['’]t)"
_RISK = (
    # Order matters where a phrase holds another: what is denied comes before what is wished. Demands for no loss at
    # all (不能亏) are the taxonomy's tag `preservation` and no preference; 怕亏 and 不想亏 are one.
    (
        MEDIUM,
        re.compile(
            rf"(?:{_NOT}{_DEGREE}保守[^。;；]{{0,6}}{_NOT}{_DEGREE}激进|{_NOT}{_DEGREE}激进[^。;；]{{0,6}}{_NOT}{_DEGREE}保守)"
        ),
    ),
    (HIGH, re.compile(rf"{_NOT}{_DEGREE}(?:保守|稳健|怂)(?!型)|not (?:too |so )?conservative")),
    (
        LOW,
        re.compile(
            r"(?:大起大落|波动|高风险|冒险|激进|风险|回撤)(?:太?[大高])?(?:一?点|些)?的?[我也都可]{0,2}"
            r"(?:不中|不行|受不了|受不住|不要(?!紧)|不敢|不考虑|吃不消|就算了"
            rf"|{_CANNOT}(?:接受|承受|扛)|(?:接受|承受|扛)不[了起住])"
            r"|(?:别|不要|不想|不能|不敢|不愿|经不起|受不了|禁不起)(?:太|碰|搞|买|冒|承担|有|那么)*"
            r"(?:激进|冒险|冒点险|搏|[冲博赌]一把|刺激|高风险|大风险|太?大的?风险|风险(?:太|高|大)|(?:大的?)?波动|大起大落|折腾|猛)"
            r"|(?:(?<!是)不是|不算|不属于)(?:激进|冒险)"
            r"|(?:风险|波动|回撤)(?:不能|不要|别)(?:太|过|那么)(?:大|高)"
            rf"|(?:{_CANNOT}(?:接受|承受|承担|扛)|(?:接受|承受|扛)不[了起住])[^，。,;；]{{0,6}}(?:波动|风险|回撤)"
            r"|(?:能|可以)?(?:接受|承受)的?(?:波动|风险|回撤)(?:能力)?[^，。,;；]{0,3}(?:不[大高强]|小|有限|低|弱)"
            rf"|(?i:{_NOT_EN} (?:(?!mind|afraid|scared|worried|problem|issue|only|low)[a-z'’]+ ){{0,6}}"
            r"(?:risky|risk(?![ -]averse)|aggressive)"
            rf"|(?:risky?|aggressive)\b[^.,;!?]{{0,20}}{_NOT_EN} (?:for|my|what|ok|acceptable|suitable|right)\b"
            r"|(?<!not )(?<!n['’]t )(?:afraid of|scared of|hate|too) (?:[a-z]+ ){0,2}(?:risky?|aggressive)\b)"
        ),
    ),
    (
        MEDIUM,
        re.compile(
            r"平衡(?!型)|中等|折中|适中|适度|均衡|中庸|中不溜|中间|一半一半|不高不低|稳中求进|稳中带"
            r"|(?P<bears>(?:小幅?|一点|一点点|小小的?)波动[^，。,;；]{0,4}(?:可以|没事|没关系|能接受|行)"
            r"|(?:能|可以)(?:接受|承受)(?:一点|一点点|小|少许|些许|小幅)(?:的)?(?:波动|风险|回撤|亏损))"
            r"|moderate|balanced|medium risk"
        ),
    ),
    (
        HIGH,
        re.compile(
            rf"(?P<bears>{_FALL}[^，。,;；]{{0,8}}{_BEAR}"
            rf"|{_CAN}(?:接受|承受|扛)(?!{_HOW_MUCH})[^，。,;；]{{0,4}}(?:波动|风险|回撤)(?:大|高)?"
            rf"|{_ASKED}(?:亏|跌|输|赔)得起|(?:跌|亏)就(?:跌|亏)|不怕(?:亏|跌|波动|风险|套)|风险(?:大|高)(?:一?点|些)"
            r"|高风险(?:也行|也可以|没关系|的?也|都行))|敢冒险|冒点险|胆子?(?:比较|还|挺|可以)?大(?!的)"
            r"|搏|冲一把|博一把|赌一把|激进(?:点|一点|型|些)|进取(?:点|一点|些)|狠点的|带劲的"
            rf"|(?:high risk|aggressive)(?![^.,;!?]{{0,20}}{_NOT_EN}\b(?! (?:a |an )?(?:problem|issue)))"
        ),
    ),
    (
        LOW,
        re.compile(
            r"稳一?[点些]|稳[妥当健](?!型)|稳稳|求稳|要稳|安稳|(?<!不)(?<!不是)(?<!不算)保守|低风险|低波动|(?:风险|波动)(?:小|低)|(?:没|无|零)风险"
            r"|胆子?(?:比较|挺|很)?小|不想亏|(?<![哪不])(?<!不是)怕(?:亏|跌|风险|波动)|(?:亏|输|赔|跌|折腾)不起|少亏|吃亏少|不冒险|不求高|不图高|不贪"
            r"|安全(?:点|一点|些|第一|为主)|conservative|low risk|safe"
        ),
    ),
)
_TO = r"\s?(?:-|–|—|~|～|到|至)\s?"
_RETURN = re.compile(
    rf"(?:百分之(?P<alow>{NUMBER}){_TO})?百分之(?P<a>{NUMBER})"
    rf"|(?:(?P<blow>{NUMBER})\s?(?:[%％]|个点)?{_TO})?(?P<b>{NUMBER})\s?(?:[%％]|个点|percent)"
    rf"|(?:年化|年收益|收益率?)(?:要|到|能|有|做到|在|是|至少)*\s?(?P<c>{NUMBER})(?=往上|以上|左右|朝上|出头|就行|[，。\s]|$)",
    re.IGNORECASE,
)
_WISH_BEFORE = re.compile(
    r"(?:年化|一年|每年|目标|收益|回报|少于|低于|不到|没个|没有|至少|最少|起码|想要|要|能有|能到|做到|达到|赚|挣|跑到|求|return|yield|least)"
    r"[^，。,;；!！?？]{0,8}$",
    re.IGNORECASE,
)
_WISH_AFTER = re.compile(
    r"^\s?(?:往上|以上|左右|的?收益|的?回报|年化|一年|就行|就够|就满意|a year|return)", re.IGNORECASE
)
_OTHER = re.compile(
    r"(?:回撤|跌|亏|赔|扛|涨了|税|费|权益|仓位|占|隔壁|别家|他行|利率|存款|定存|存单|给到?)[^，。,;；!！?？]{0,8}$"
)


def risk_preference(text: str) -> tuple[str, str] | None:
    """(`low` | `medium` | `high`, words) or None where the turn says nothing about risk."""
    for level, pattern in _RISK:
        for match in pattern.finditer(text):
            if not match.groupdict().get("bears") or not _QUESTION.match(text, match.end()):
                return level, match.group(0)
    return None


def expected_return(text: str) -> tuple[float, str] | None:
    """(percent a year, words) the customer asks for, or None; drawdowns, rates of others and fees are none."""
    for match in _RETURN.finditer(text):
        before, after = text[max(0, match.start() - 16) : match.start()], text[match.end() : match.end() + 8]
        if _OTHER.search(before) or not (match["c"] or _WISH_BEFORE.search(before) or _WISH_AFTER.match(after)):
            continue
        value = parse_number(match["a"] or match["b"] or match["c"])
        low = parse_number(match["alow"] or match["blow"] or "")
        if value is not None and low is not None and low < value:
            value = (low + value) / 2
        if value is not None and 0 < value <= 100:
            return value, match.group(0)
    return None
