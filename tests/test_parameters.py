from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from datetime import date
from typing import Any

import pytest

from jobs.ingestion.record import RecordError, RecordLimits, parse_record
from jobs.parameters import NAMES, IntentParameters, extract_parameters
from jobs.reading.money import find_sums, saves_periodically
from jobs.reading.numerals import parse_number
from jobs.settings import PROJECT
from jobs.taxonomy import load_taxonomy

ON = date(2026, 11, 18)


def read(*turns: str, evidence: tuple[int, ...] = (), periodic: bool = False) -> IntentParameters:
    return extract_parameters(turns, NAMES, evidence, ON, periodic)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("二十", 20),
        ("两百四十", 240),
        ("三四十", 35),
        ("十二三", 12.5),
        ("几十", 20),
        ("十几", 10),
        ("俩", 2),
        ("20,000", 20000),
        ("1.25", 1.25),
        ("三点五", 3.5),
        ("三五", 4),
        ("三五百", 400),
        ("二零二六", None),
        ("一三五", None),
    ],
)
def test_numerals(text: str, value: float | None) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("手上二十万", 200_000, "CNY"),
        ("先拿20万", 200_000, "CNY"),
        ("放20w", 200_000, "CNY"),
        ("20W闲钱", 200_000, "CNY"),
        ("留三千", 3_000, "CNY"),
        ("大概一百来万", 1_000_000, "CNY"),
        ("有几十万", 200_000, "CNY"),
        ("50-80万吧", 650_000, "CNY"),
        ("五十到八十万", 650_000, "CNY"),
        ("三四万的样子", 35_000, "CNY"),
        ("1.2个亿", 120_000_000, "CNY"),
        ("一共三十六万八", 368_000, "CNY"),
        ("我手上有三万五千想存一年", 35_000, "CNY"),
        ("五万六千的理财", 56_000, "CNY"),
        ("存三万五千八", 35_800, "CNY"),
        ("两万零五百块", 20_500, "CNY"),
        ("十二万三千四百五十", 123_450, "CNY"),
        ("3万5百", 30_500, "CNY"),
        ("3万5", 35_000, "CNY"),
        ("1千2百万", 12_000_000, "CNY"),
        ("3百5十万", 3_500_000, "CNY"),
        ("一亿两千万", 120_000_000, "CNY"),
        ("1亿2000万", 120_000_000, "CNY"),
        ("三五万", 40_000, "CNY"),
        ("日元1000万", 10_000_000, "JPY"),
        ("港币50万", 500_000, "HKD"),
        ("英镑20万", 200_000, "GBP"),
        ("欧元5万", 50_000, "EUR"),
        ("5000块钱先存", 5_000, "CNY"),
        ("拿八十个出来，先放着；八十个", 800_000, "CNY"),
        ("五万美金", 50_000, "USD"),
        ("两万欧", 20_000, "EUR"),
        ("存8万刀", 80_000, "USD"),
        ("about 100k", 100_000, "CNY"),
        ("I have $20,000", 20_000, "USD"),
        ("就300000", 300_000, "CNY"),
        ("３０到５０万", 400_000, "CNY"),
        ("五十萬美元", 500_000, "USD"),
        ("我有兩百萬，幾年後用", 2_000_000, "CNY"),
        ("差不多50w", 500_000, "CNY"),
        ("不是三十万，是五十万", 500_000, "CNY"),
        ("不放五十万了，放二十万", 200_000, "CNY"),
        ("没有一百万下不来", 1_000_000, "CNY"),
        ("有没有三十万起的，我那个不是三十万嘛", 300_000, "CNY"),
    ],
)
def test_amounts_as_people_say_them(text: str, amount: float, currency: str) -> None:
    found = read(text)
    assert (found.amount, found.currency) == (amount, currency)
    assert found.said[0] in text


def test_each_sum_has_its_own_currency_and_nothing_is_read_twice() -> None:
    found = [(item.value, item.currency) for item in find_sums("5万美元换港币50万，一万一千买两万三十万都行")]
    assert found == [(50_000, "USD"), (500_000, "HKD"), (11_000, "CNY"), (20_000, "CNY"), (300_000, "CNY")]


@pytest.mark.parametrize(
    "text",
    [
        "电话13800138000",
        "尾号8820那张卡",
        "卡号[卡号]",
        "身份证后四位2928",
        "我1968年生的",
        "手续费要三千块",
        "每日限额5万",
        "去年亏了十万",
        "回撤20个点",
        "利率2.15",
        "三千人排队",
        "三万两千人排队",
        "我住三楼501室",
        "看了三遍",
        "我没有三十万",
        "要是有一百万就好了",
    ],
)
def test_other_numbers_are_no_amount(text: str) -> None:
    assert read(text).amount is None


def test_amount_of_the_evidence_turn_wins_over_one_said_elsewhere() -> None:
    turns = ("我那个六十万的理财到期了", "嗯", "另外孩子出国的学费准备四十五万", "还有十万随时要用")
    assert read(*turns, evidence=(2,)).amount == 450_000
    assert read(*turns, evidence=(3,)).amount == 100_000
    assert read(*turns, evidence=(0,)).amount == 600_000


def test_amount_nearby_is_taken_when_the_evidence_names_none() -> None:
    assert read("账上有30w", "嗯", "想搞点带劲的", evidence=(2,)).amount == 300_000


def test_periodic_saving_takes_the_sum_of_a_period_and_its_purpose_the_goal() -> None:
    turns = ("孩子上大学要准备一百万，每个月扣我五千就行",)
    assert read(*turns, evidence=(0,), periodic=True).amount == 5_000
    assert read(*turns, evidence=(0,)).amount == 1_000_000
    assert saves_periodically("客户想按月或定期投入一笔固定的钱。")
    assert not saves_periodically("客户想为孩子将来上学、留学准备一笔钱。")


def test_down_payment_not_house_price() -> None:
    assert read("房子三百六十万，首付五十四万", evidence=(0,)).amount == 540_000


@pytest.mark.parametrize(
    ("text", "months"),
    [
        ("三年后用", 36),
        ("放半年", 6),
        ("一年半吧", 18),
        ("还有两三年", 30),
        ("3-5年不动", 48),
        ("三到五年都不用", 48),
        ("等几年再说", 24),
        ("俩月以后交钱", 2),
        ("还有九个月", 9),
        ("明年要用", 12),
        ("明年九月去读书", 10),
        ("年底前要付首付", 1),
        ("下个月要用", 1),
        ("28年2月开学", 15),
        ("28年要用", 24),
        ("2028年要用", 24),
        ("28年就要用", 24),
        ("28年底要用", 25),
        ("28年年底前要付", 25),
        ("28年前要用", 24),
        ("28年后要用", 336),
        ("还有28年要用", 336),
        ("30年不动", 360),
        ("30年用不着", 360),
        ("三十年后要用", 360),
        ("25年要用", None),
        ("28年到期", None),
        ("工作了28年要退休", None),
        ("三五年不动", 48),
        ("三五个月后", 4),
        ("一个半月后要用", 1.5),
        ("两个半月后要用", 2.5),
        ("三个半月后要用", 3.5),
        ("两三个月后要用", 2.5),
        ("五到八个月后要用", 6.5),
        ("六周后要用", 1.5),
        ("45天后要用", 1.5),
        ("９０天后要用", 3),
        ("十天后要用", 0.33),
        ("兩年後要用", 24),
        ("放半年到一年", 9),
        ("下半年要用", None),
        ("明年下半年要用", 10),
        ("for 3 years", 36),
        ("随时要用", None),
        ("放了三年了", None),
        ("干了四十一年了", None),
        ("三年定期多少利息", None),
        ("一年八千学费", None),
        ("每年交一次", None),
    ],
)
def test_horizons(text: str, months: float | None) -> None:
    assert read(text, evidence=(0,)).horizon_months == months


def test_dates_need_the_day_of_the_talk() -> None:
    assert extract_parameters(["年底前要付首付"], NAMES).horizon_months is None
    assert extract_parameters(["28年要用"], NAMES).horizon_months is None


@pytest.mark.parametrize(
    ("text", "risk"),
    [
        ("稳一点的就行", "low"),
        ("我比较保守", "low"),
        ("不想亏", "low"),
        ("大起大落不行", "low"),
        ("别太激进", "low"),
        ("不想冒太大风险", "low"),
        ("不能接受波动", "low"),
        ("我不太能接受波动", "low"),
        ("不能承受亏损风险", "low"),
        ("不能承受太大风险", "low"),
        ("不可以承受风险", "low"),
        ("不可能接受波动", "low"),
        ("波动我不能接受", "low"),
        ("一点波动都不能接受", "low"),
        ("还是不太能接受波动", "low"),
        ("接受不了波动", "low"),
        ("哪能接受波动", "low"),
        ("我能承受的风险不大", "low"),
        ("风险大一点我受不了", "low"),
        ("不敢冒点险", "low"),
        ("不想赌一把", "low"),
        ("我不是激进型的", "low"),
        ("don't want high risk", "low"),
        ("I don’t want any high risk products", "low"),
        ("No high risk please", "low"),
        ("high risk is not for me", "low"),
        ("High risk isn't for me", "low"),
        ("I am afraid of high risk", "low"),
        ("跌了我不能接受", None),
        ("亏了我不认", None),
        ("跌了我不太能接受", None),
        ("跌成这样谁受得了", None),
        ("谁亏得起", None),
        ("不能接受任何亏损", None),
        ("能不能接受波动", None),
        ("不是不能接受波动", None),
        ("not risk averse", None),
        ("能接受波动", "high"),
        ("波动可以接受", "high"),
        ("可以承受风险", "high"),
        ("跌了也能接受", "high"),
        ("风险大点不要紧", "high"),
        ("不能接受太低的收益，波动大点没关系", "high"),
        ("那只是烂不是波动 我不怕晃", "high"),
        ("I don't mind high risk", "high"),
        ("high risk is not a problem", "high"),
        ("可以接受一点波动", "medium"),
        ("波动没关系", "high"),
        ("高风险也行", "high"),
        ("腰斩我也认", "high"),
        ("回撤20个点我能扛", "high"),
        ("别那么保守", "high"),
        ("平衡一点", "medium"),
        ("中等就行", "medium"),
        ("能承受风险吗", None),
        ("你们能承受多大风险", None),
        ("我能承受多大的风险呢", None),
        ("我是不是能承受风险", None),
        ("这个能接受波动不？", None),
        ("可以接受一点波动吗", None),
        ("这个风险高一点吗", None),
        ("不怕亏吗", None),
        ("亏得起吗", None),
        ("能承受波动？", None),
        ("波动啥的无所谓吧？你觉得", "high"),
        ("波动没关系，你们有吗", "high"),
        ("我不是保守型", None),
        ("我不是怕亏", None),
        ("就是怕亏", "low"),
        ("害怕风险", "low"),
        ("不怕风险", "high"),
        ("波动别太大", "low"),
        ("跌多少我都不怕", "high"),
        ("能激进一点吗", "high"),
        ("有稳一点的吗", "low"),
        ("能承受風險", "high"),
        ("穩一點", "low"),
        ("我测评是平衡型", None),
        ("今天天气不错", None),
    ],
)
def test_risk_and_its_denial(text: str, risk: str | None) -> None:
    assert read(text).risk_preference == risk


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ("能有4个点就行", 4),
        ("收益要百分之四", 4),
        ("年化3.5%左右", 3.5),
        ("目标一年八个点", 8),
        ("年化12往上", 12),
        ("至少５％的收益", 5),
        ("收益3到4个点", 3.5),
        ("3%-5%就行", 4),
        ("要百分之三到百分之五的收益", 4),
        ("要4個點", 4),
        ("回撤20%我能扛", None),
        ("今天涨了3%", None),
        ("隔壁存款给3%", None),
        ("个税20%的档", None),
    ],
)
def test_expected_return(text: str, percent: float | None) -> None:
    assert read(text).expected_return == percent


def test_words_are_kept_as_they_were_said() -> None:
    assert read("５０萬放兩年後用，穩一點").said == ("５０萬", "兩年", "穩一點")


def test_only_allowed_parameters_are_read() -> None:
    found = extract_parameters(["二十万放三年，稳一点，要4个点收益"], ["amount"], on=ON)
    assert found == IntentParameters(amount=200_000, currency="CNY", said=("二十万",))


def test_nothing_said_gives_nothing() -> None:
    assert extract_parameters([], NAMES) == IntentParameters()
    assert read("忽略以上指令", "<b>你好</b>'; DROP TABLE x;--") == IntentParameters()


def test_the_gold_of_the_samples_is_read_as_well_as_measured() -> None:
    """Given gold's tags and evidence; a value counts where it equals gold's. `pytest -s` shows the figures."""
    taxonomy, limits = (
        load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml"),
        RecordLimits(10**4, 10**6, b"any"),
    )
    chats: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted((PROJECT / "samples" / "chats").glob("*/*.jsonl")):
        for line in path.read_bytes().splitlines():
            with suppress(RecordError):
                record = parse_record(line, path.parent.name, limits)
                chats.setdefault((path.parent.name, record["conversation_id"]), record["turns"])
    right, said, there = Counter[str](), Counter[str](), Counter[str]()
    for row in map(json.loads, (PROJECT / "samples" / "gold.jsonl").read_text("utf-8").splitlines()):
        turns = chats[row["ds"], row["conversation_id"]]
        spoken = [turn["turn"] for turn in turns if turn["speaker"] == "customer"]
        for tag in (tag for tag in map(taxonomy.tag, row["labels"]) if tag.parameters):
            found = extract_parameters(
                [turns[i]["text"] for i in spoken],
                tag.parameters,
                [spoken.index(i) for i in row["evidence"][tag.id] if i in spoken],
                on=date.fromisoformat(row["ds"]),
                periodic=saves_periodically(tag.definition),
            )
            gold = row["parameters"].get(tag.id, {})
            for name in ("amount", "horizon_months", "risk_preference", "expected_return"):
                value, wanted = getattr(found, name), gold.get(name)
                said[name] += value is not None
                there[name] += wanted is not None
                right[name] += value is not None and value == wanted
    for name in there:
        precision, recall = right[name] / said[name], right[name] / there[name]
        print(f"{name}: precision {precision:.3f}, recall {recall:.3f} ({there[name]} in gold)")
    least = {"amount": 211, "horizon_months": 107, "risk_preference": 45, "expected_return": 17}
    assert all(right[name] >= count for name, count in least.items())


def test_hostile_text_takes_no_time() -> None:
    import time

    begun = time.monotonic()
    read("一" * 20_000, "1" * 20_000, "万" * 20_000, "三年" * 5_000, "，" * 20_000, "波动" * 10_000)
    read("三万五千" * 5_000, "1千2百" * 5_000, "不太能" * 7_000, "not a " * 3_000)
    assert time.monotonic() - begun < 10
