"""Where names stand in a text: those that are known, and those that a cue gives away (我叫, 户名, …先生, my name is).

A cue shows that a name begins, not where it ends: behind 我叫 the end is told by what follows it, and both sides leave
out words that begin with a surname (师傅, 单位) or that only a title makes look like a name (王牌先生).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SURNAMES = (
    "欧阳|上官|司马|诸葛|皇甫|尉迟|[王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢傅钟姜崔谭廖范"
    "汪陆金石戴贾韦夏邱方侯邹熊孟秦白江阎薛尹段雷黎史龙陶贺顾毛郝龚邵万钱严覃武莫孔向汤常温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池查麻苑迟邝]"
)
_CUE = (
    r"(?P<cue>我叫|本人叫|名字[是叫]|姓名[是为:：]?\s?|户名[是为:：]?\s?|收款人[是为:：]?\s?|受益人[是为:：]?\s?"
    r"|联系人[是为:：]?\s?|名下是|全名[是叫]?)"
)
# 户名和卡号 names nobody: behind these a name that runs on into a word needs 是, 为 or a colon.
_CUE_SAID = r"(?P<cue>我叫|本人叫|名字[是叫]|(?:姓名|户名|收款人|受益人|联系人)[是为:：]\s?|名下是|全名[是叫])"
_WORD = (
    r"和(?=[一-鿿])|应[该当]|师[傅父兄姐]|单[位身亲]|安[全保排]|全[家部体职能是称]|方[便案]|任[何务]|车[来去到过接送要等]|项目|时[候间尚]|成[年功熟]|常[常规]|查[询找]|祝[福贺]"
    r"|高(?:[级端龄管]|净值|个)|金[牌领]|白领|王牌|万能|明星|路人"
)
_BEFORE_STOP = re.compile(
    rf"{_CUE}(?!{_WORD})(?:{_SURNAMES})[一-鿿]{{1,2}}(?=[，。,.、；;！!？?\s的和跟是在身电手卡证账)）\]\[]|$)"
)
_TITLE = r"经理|主任|行长|老师|医生|律师|师傅|总|哥|姐|叔|姨|先生|女士|小姐|同志"
_NEVER_LAST = "[想要问找买办打我你您他她这那就没给帮啊呀呢吧哈嘛哦]"  # 我叫李明要开户
_BEFORE_WORD = re.compile(
    rf"{_CUE_SAID}(?!{_WORD})(?:{_SURNAMES})(?!{_TITLE})[一-鿿](?:(?!{_NEVER_LAST})[一-鿿])?"
    r"(?=[啊呀呢哈吧嘛哦噢喔呐哟啦诶想要来问找咨办买需请麻您你我他她这那也就不没有今刚从住做用给帮能可该因所但已正准申预开取存查账号卡])"
)
# A Chinese character before the name must be one that such a name follows: 转告, 约, 客户, 经理.
_TITLED = re.compile(
    rf"(?:(?<![一-鿿])|(?<=[告约给跟和找叫请帮让替向由问见陪户理人系谢]))(?!{_WORD}|[于时祝向和](?:{_SURNAMES})(?:先生|女士|小姐|同志))"
    rf"(?:{_SURNAMES})[一-鿿]{{1,2}}(?=先生|女士|小姐|同志)"
)
_ENGLISH = re.compile(r"\b(?P<cue>(?i:my name is|this is|i am|i'm)\s+)[A-Z][a-z]+(?:\s+[A-Z][a-z]+){1,2}\b")


def _known(name: str) -> re.Pattern[str]:
    """A name as it is; a Latin one of several words whatever its case. A single one may be a word: May, Will."""
    parts = name.split()
    pattern = r"\s+".join(re.escape(part) for part in parts)
    if len(parts) > 1 and name.isascii():
        return re.compile(rf"(?<![A-Za-z]){pattern}(?![A-Za-z])", re.IGNORECASE)
    return re.compile(pattern)


def name_patterns(known: Iterable[str]) -> Iterator[re.Pattern[str]]:
    """The patterns to replace, in order; a group `cue`, where there is one, is kept.

    Args:
        known: names of people in the conversation; those of one character are left out.
    """
    stripped = {name.strip() for name in known}
    yield from (_known(name) for name in sorted(stripped, key=len, reverse=True) if len(name) >= 2)
    yield from (_BEFORE_STOP, _BEFORE_WORD, _TITLED, _ENGLISH)
