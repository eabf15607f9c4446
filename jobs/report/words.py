"""What the page calls things: Chinese first, English below."""

from __future__ import annotations

VERDICTS = {
    "below": ("✕", "低于目标", "below target"),
    "unproven": ("?", "尚未证明", "not proven"),
    "no_gold": ("–", "没有金标", "no gold"),
    "met": ("✓", "已证明", "proven"),
}

KINDS = {"intent": "意图", "mot": "关键时刻", "service": "服务"}

SPLITS = {"train": "训练", "calibration": "校准", "test": "测试"}

LABELLERS = {"cascade": "级联（学生＋大模型）", "student": "学生模型", "llm": "大模型"}

DRIFT = {"stable": ("met", "稳定 stable"), "moved": ("unproven", "变动 moved"), "shifted": ("below", "漂移 shifted")}

QUARANTINE = {
    "not_json": "不是合法的 JSON",
    "encoding": "编码无法识别",
    "not_an_object": "不是 JSON 对象",
    "missing_id": "缺会话编号",
    "repeated_id": "会话编号重复",
    "no_turns": "没有对话内容",
    "bad_turn": "某一句格式不对",
    "empty_text": "文字为空",
    "too_long": "文字过长",
    "no_customer_turn": "只有客户经理在说",
    "bad_date": "日期读不出",
    "future_date": "日期在未来",
    "bad_channel": "渠道名不合规",
    "missing_party": "缺客户编号",
}

INTERVALS = (
    "单个标签的精确率、召回率：Wilson 计分区间（Wilson 1927），双侧 {level}。"
    "总体 micro 的区间：按客户整组重抽样（百分位 bootstrap，因为同一客户的会话彼此相似）"
    "与精确二项区间（Clopper & Pearson 1934），两端各取更保守的一个。"
    "macro 是各标签的平均，不给区间。"
)
