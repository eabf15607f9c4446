"""Generated chat logs for scale benchmarks only: a grammar of turns, filled with amounts, terms and people.

Nothing is measured on them but speed and memory: quality is measured on chats that people wrote.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHANNELS = ("wecom", "app", "phone")
CHATS_A_CUSTOMER = 3
_LINES_A_WRITE = 2_000

_WISHES = (
    "手里有{n}万，想买点稳的",
    "那只{p}什么时候到期啊",
    "{p}能提前赎回吗，急用{n}万",
    "孩子{y}年后上大学，想每个月存{k}千",
    "最近收益怎么掉了这么多，亏了{k}千多",
    "想给{r}买份保险，要重疾的",
    "房贷还剩{n}万，提前还合适吗",
    "年终奖发了{n}万，放哪里好",
    "想换点美元，{n}万人民币",
    "我要退休了，想要每月有{k}千的",
    "别家银行{p}给到{q}%，你们呢",
    "手续费怎么扣了{k}百，我要投诉",
    "{r}的卡也想转到你们这边",
    "{p}不想续了，钱转回卡里",
    "有没有{m}个月的，利率{q}以上",
    "公司分红到账{n}万，帮我看看",
    "定投{p}每月{k}千，先停一停",
    "大额存单{n}万起的还有额度没",
)
_SMALL_TALK = (
    "早上好",
    "好的谢谢",
    "在忙，晚点说",
    "收到",
    "周末愉快啊",
    "{r}下周过生日，哈哈",
    "今天{m}号线又挤爆了",
    "嗯嗯知道了",
    "不用了，暂时没钱",
    "这个我再想想",
)
_ADVISOR = (
    "您好，{p}目前业绩比较基准{q}%，期限{m}个月",
    "好的，我帮您查一下",
    "您方便什么时候来网点？",
    "风险等级R{g}，您的测评结果可以买",
    "额度还有{n}万，您抓紧",
    "明白，我{m}点前给您回复",
    "不客气，有事随时联系我",
)
_MASS = (
    "【温馨提示】尊敬的客户，本周我行代销新品“稳添利90天”火热发售中，欢迎咨询客户经理！",
    "【节日问候】祝您阖家安康，万事如意！",
)
_RELATIVES = ("我妈", "我爸", "爱人", "儿子", "女儿", "岳父", "表姐", "同事")
_ENDINGS = ("", "", "。", "~", "，谢谢", "哈", "呢", "吧", "！", "🙏")
_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨"


def _fill(random_: random.Random, pattern: str) -> str:
    pick = random_.randint
    product = "".join(random_.choices("稳盈聚鑫安悦添利恒泰", k=2)) + f"{pick(1, 999)}号"
    return pattern.format(
        n=pick(1, 600),
        k=pick(1, 99),
        y=pick(1, 18),
        m=pick(1, 36),
        q=f"{pick(150, 480) / 100:.2f}",
        g=pick(1, 5),
        p=product,
        r=random_.choice(_RELATIVES),
    ) + random_.choice(_ENDINGS)


def _turns(random_: random.Random) -> list[dict[str, str]]:
    turns = [{"speaker": "advisor", "text": random_.choice(_MASS)}] if random_.random() < 0.15 else []
    wishes = random_.choices((0, 1, 2, 3), (45, 38, 13, 4))[0]
    said = [_fill(random_, random_.choice(_WISHES)) for _ in range(wishes)]
    said += [_fill(random_, random_.choice(_SMALL_TALK)) for _ in range(random_.randint(1, 3))]
    random_.shuffle(said)
    for text in said:
        turns.append({"speaker": "customer", "text": text})
        if random_.random() < 0.6:
            turns.append({"speaker": "advisor", "text": _fill(random_, random_.choice(_ADVISOR))})
    return turns


def raw_chats(count: int, ds: str, seed: int) -> Iterator[dict[str, Any]]:
    """`count` raw records of night `ds`, about three chats a customer; the same for the same arguments."""
    random_ = random.Random(seed)
    customers = max(1, count // CHATS_A_CUSTOMER)
    for number in range(count):
        customer = random_.randrange(customers)
        channel = CHANNELS[customer % len(CHANNELS)]
        yield {
            "conversation_id": f"G{number:08d}",
            "channel": channel,
            "channel_user_id": f"gen{customer:07d}",
            "customer_name": f"{_SURNAMES[customer % len(_SURNAMES)]}先生",
            "advisor_id": f"A{customer % 500:03d}",
            "started_at": f"{ds}T{random_.randint(8, 21):02d}:{random_.randint(0, 59):02d}:00+08:00",
            "lang": "zh",
            "turns": _turns(random_),
        }


def write_chats(folder: Path, count: int, ds: str, seed: int) -> Path:
    """Write them as JSON Lines where they are not there yet; returns the file."""
    path = folder / f"generated-{count}-{seed}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as handle:
            lines: list[str] = []
            for record in raw_chats(count, ds, seed):
                lines.append(json.dumps(record, ensure_ascii=False) + "\n")
                if len(lines) == _LINES_A_WRITE:
                    handle.writelines(lines)
                    lines = []
            handle.writelines(lines)
        part.rename(path)
    return path
