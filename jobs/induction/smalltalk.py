"""Groups of small talk: taking leave, being heard on the line, being busy, wishing well. They become no tags.

`courtesy` knows a turn that is nothing but courtesy. What is left over still gathers into groups of its own, so each
group is looked at as a whole: where most of its turns say nothing beyond a closed class of social words, it is no wish.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.induction.keywords import content_terms

_MOST = 0.6
_SOCIAL_WORDS = """
听到 听见 听得见 能听 信号 收到 刚看见 挂 先挂 挂了 发 先这样 回头 联系 改天 再聊 聊天 吃饭 吃药 开会 开车 下班 上班
加班 出差 休息 睡 睡觉 早点 天气 下雨 降温 冷 热 身体 注意 注意安全 保重 节日 快乐 节日快乐 新年 新年快乐 过年 中秋
国庆 生日 生日快乐 周末愉快 祝 祝您 开心 高兴 拜拜 拜 再见 好好 还好 挺好 不错 蛮好 表情 图片 语音 消息 信息 时间
有空 没空 方便 见面 聊 忙 在忙 等会 等会儿 稍等 等等 慢慢 放心 谢 感谢 客气 辛苦 老师 经理 姐 哥 阿姨 叔叔 晚安 早安
同乐 玫瑰 笑 哭 捂脸 加油 顺利 平安 恭喜 明白 清楚 了解 懂 记得 记住 转告 bye goodbye hear hearing busy later talk
soon weekend holiday birthday christmas congratulations merry welcome moment minute hold wait waiting lunch dinner
weather cold rain rest sleep luck care glad happy lovely funny joke
"""
SOCIAL = frozenset(_SOCIAL_WORDS.split())


def says_nothing(text: str) -> bool:
    """Whether no content word of a turn is beyond the social ones."""
    return all(term in SOCIAL for term in content_terms(text))


def is_small_talk(texts: Sequence[str]) -> bool:
    """Whether at least six in ten of a group's turns say nothing but social words."""
    idle = sum(says_nothing(text) for text in texts)
    return idle >= _MOST * len(texts)
