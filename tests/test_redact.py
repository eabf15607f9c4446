from __future__ import annotations

import pytest

from jobs.conversation import Conversation, Turn
from jobs.privacy.clean import clean
from jobs.privacy.pseudonym import pseudonym, pseudonym_secret
from jobs.privacy.redact import is_personal, redact, redact_conversation
from jobs.settings import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("手机13812345678", "手机[电话]"),
        ("手机 138 1234 5678 哈", "手机 [电话] 哈"),
        ("+86 138-1234-5678", "[电话]"),
        ("１３８１２３４５６７８", "[电话]"),
        ("一三八幺二三四五六七八", "[电话]"),
        ("座机021-62345678", "座机[电话]"),
        ("加我V13812345678聊", "加我V[电话]聊"),
        ("tel13812345678", "tel[电话]"),
        ("1.13812345678", "1.[电话]"),
        ("手机138.1234.5678", "手机[电话]"),
        ("我电话13812345678 2026-11-20到期前打给我", "我电话[电话] 2026-11-20到期前"),
        ("2026-11-20 13812345678", "2026-11-20 [电话]"),
        ("2026-11-20-021-62345678", "2026-11-20-[电话]"),
        ("身份证11010519491231002X", "身份证[证件号]"),
        ("身份证 110105 1949-12-31 002X", "身份证 [证件号]"),
        ("No.6222021466983730013", "No.[卡号]"),
        ("身份证 110105 19491231 002X 收好", "身份证 [证件号] 收好"),
        ("护照E12345678", "护照[证件号]"),
        ("卡号6222 0214 6698 3730 013", "卡号[卡号]"),
        ("邮箱 a.b-c@example.com。", "邮箱 [邮箱]。"),
        ("微信号：abc_12345 加我", "微信号：[账号] 加我"),
        ("微信号abc_12345", "微信号[账号]"),
        ("加VX zhang-san88哈", "加VX [账号]哈"),
        ("QQ12345678", "QQ[账号]"),
        ("寄到建国路88号3栋502室吧", "[地址]吧"),
        ("我叫冯德胜，你好", "我叫[姓名]，你好"),
        ("王建国先生您好", "[姓名]先生您好"),
        ("我的卡：\n1.6222021234567890128\n2.6217001234567890123", "我的卡：\n1.[卡号]\n2.[卡号]"),
        ("1.6222 0214 6698 3730 013", "1.[卡号]"),
        ("身份证:1.110101199003071233", "身份证:1.[证件号]"),
        ("座机(010)65551234", "座机[电话]"),
        ("座机（0755）82345678", "座机[电话]"),
        ("护照EJ1234567号", "护照[证件号]号"),
        ("港澳通行证C12345678", "港澳通行证[证件号]"),
        ("港澳通行证CA1234567", "港澳通行证[证件号]"),
        ("回乡证H12345678", "回乡证[证件号]"),
        ("回乡证M1234567801", "回乡证[证件号]"),
        ("香港身份证A123456(7)", "香港身份证[证件号]"),
        ("香港身份证Z683365（A）", "香港身份证[证件号]"),
        ("台湾身分证A123456789", "台湾身分证[证件号]"),
        ("车牌京A12345", "车牌[号码]"),
        ("粤B·D12345停哪", "[号码]停哪"),
        ("我叫王小明啊", "我叫[姓名]啊"),
        ("我叫王小明想咨询", "我叫[姓名]想咨询"),
        ("我叫李明要开户", "我叫[姓名]要开户"),
        ("户名王小明账号", "户名[姓名]账号"),
        ("麻烦转告李建国先生", "转告[姓名]先生"),
        ("请帮我约李建国女士下午三点", "约[姓名]女士下午"),
        ("我的客户张三先生", "客户[姓名]先生"),
        ("Hi, this is Joe Last and I pay", "Hi, this is [姓名] and I pay"),
    ],
)
def test_personal_data_is_replaced(text: str, expected: str) -> None:
    found, counts = redact(text)
    assert expected in found
    assert counts.total() >= 1


@pytest.mark.parametrize(
    "text",
    [
        "买200000，收益3.25%，2026-11-20 到期",
        "三千五百万放一年",
        "大概50-80万",
        "基金代码 110011",
        "去年买了1000000块钱的，现在1032000",
        "2026年11月20日 10:23",
        "存200000 2026-11-20 2026-12-20到期",
        "圆周率3.141592653589793",
        "微信20000块，微信app登录不了",
        "涨了15.30 16.45 17.20",
        "我是说你们的产品不错",
        "净值1.2345678901234 1.4142135623730951 0.6222021234567890",
        "4.35 2026-11-20 1032000",
        "日期2026.11.20，收益1.50000000",
        "代码A12345，C1，新A股12345，沪A600519",
        "我叫你们客服",
        "我叫车来接，我叫师傅来修。我叫单位来办",
        "户名和卡号对不上，收款人全称要写吗",
        "受益人单独写我儿子，我叫应该没问题吧",
        "我叫高经理来办，我叫李姐帮我",
        "王牌先生，他是王牌先生",
        "高净值女士，给单身女士",
        "姓王的先生，跟王先生说，对于张女士，恭喜潘先生",
    ],
)
def test_amounts_dates_and_products_stay(text: str) -> None:
    assert redact(text) == (text, {})


def test_known_names_are_replaced_everywhere() -> None:
    text, counts = redact("冯德胜的卡，给冯德胜本人", ["冯德胜", ""])
    assert text == "[姓名]的卡，给[姓名]本人"
    assert counts["[姓名]"] == 2


def test_latin_names_of_several_words_are_known_whatever_their_case() -> None:
    text, counts = redact("john smith here, JOHN  SMITH. Johnsmith, may I?", ["John Smith", "May"])
    assert text == "[姓名] here, [姓名]. Johnsmith, may I?"
    assert counts["[姓名]"] == 2


def test_a_number_of_a_place_that_is_known_in_part_is_redacted_all_the_same() -> None:
    """python-stdnum raises KeyError for one in eight hundred numbers of eighteen digits."""
    assert redact("单号135519658801137480")[0] == "单号[号码]"


@pytest.mark.parametrize(
    ("identifier", "personal"),
    [
        ("WX20261120000012345", False),
        ("C20261120", False),
        ("chat1763600000000", False),
        ("2026-11-20-000123", False),
        ("6b1f7a52-0f4e-4c3d-9a7b-1d2e3f4a5b6c", False),
        ("wx13812345678", True),
        ("11010519491231002X", True),
        ("a.b@example.com", True),
        ("wm-冯德胜-3", True),
    ],
)
def test_identifiers_are_personal_or_counters(identifier: str, personal: bool) -> None:
    assert is_personal(identifier, ["冯德胜"]) == personal


def test_turn_numbers_do_not_move() -> None:
    before = Conversation("a", (Turn("customer", "打13812345678"), Turn("agent", "好")))
    after = redact_conversation(before)
    assert [t.text for t in after.turns] == ["打[电话]", "好"]


def test_clean_drops_control_and_bidirectional_codes_and_keeps_emoji() -> None:
    assert clean("🏳️‍🌈 1️⃣") == "🏳️‍🌈 1️⃣"
    assert clean("a\x00b\x07\u202ec\ud800 👨‍👩‍👧\n") == "abc\ufffd 👨‍👩‍👧\n"


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\xad", "\u200d", "\u200e"])
def test_characters_without_width_hide_no_number(hidden: str) -> None:
    assert redact(clean(f"手机138{hidden}0013{hidden}8000"))[0] == "手机[电话]"


def test_pseudonyms_need_the_secret_and_compare_phones_by_digits(settings: Settings) -> None:
    secret = pseudonym_secret(settings)
    assert pseudonym(secret, "phone", "+86 138 1234 5678") == pseudonym(secret, "phone", "13812345678")
    assert pseudonym(secret, "phone", "13812345678") != pseudonym(b"other", "phone", "13812345678")
    assert pseudonym(secret, "wecom", "x") != pseudonym(secret, "app", "x")
