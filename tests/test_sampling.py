from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from jobs.errors import ContractError
from jobs.quality import check_table
from jobs.sample import quotas, sample
from jobs.sampling.choose import allocate, choose, farthest_first, leaders
from jobs.sampling.essence import alike, bands, essence, letters, signatures
from jobs.sampling.units import draw, drawn_for
from jobs.settings import Settings
from jobs.storage import Tables
from tests.night_facts import write

NIGHT = "2026-11-20"
NOTICE = (
    "尊敬的{}：本行将于本周六凌晨进行系统升级维护，届时手机银行、网上银行及柜面转账业务将暂停办理，"
    "请您提前安排资金使用，给您带来的不便敬请谅解，详询网点客户经理{}"
)
RARE = "我在新加坡的叔叔过世了，那边律师说要办遗嘱认证，跨境继承这块你们有人懂吗"
SUBJECTS = ("房贷", "定存", "基金", "黄金", "保险", "理财", "信用卡", "外汇", "养老金", "国债", "股票", "工资卡")
VERBS = ("怎么提前还", "利率是多少", "能不能转出来", "最近亏了要不要卖", "到期怎么办", "想再买点", "手续费贵不贵")
WHENS = ("孩子开学前", "等年终奖发了", "下个月搬家", "老伴住院以后", "公司上市那阵", "春节回老家之前", "换工作的时候")


def test_every_stratum_gets_its_share() -> None:
    assert allocate({"a": 600, "b": 300, "c": 100}, 10) == {"a": 6, "b": 3, "c": 1}
    small = allocate({"a": 990, "b": 5, "c": 5}, 10)
    assert sum(small.values()) == 10
    assert small["b"] == small["c"] == 1
    assert allocate({"a": 2, "b": 3}, 100) == {"a": 2, "b": 3}
    assert allocate({}, 5) == {}


def test_of_more_strata_than_places_the_largest_are_sampled() -> None:
    found = allocate({f"s{size}": size for size in (1, 2, 3, 50, 60, 900)}, 4)
    assert sum(found.values()) == 4
    taken = [count > 0 for _, count in sorted(found.items(), key=lambda item: int(item[0][1:]))]
    assert taken == sorted(taken), "no stratum goes without one while a smaller one has one"


def test_what_no_tag_explains_has_its_share_of_a_sample_with_more_strata_than_places() -> None:
    units = {f"{channel} night-{n:02}": 1000 for channel in ("app", "wecom") for n in range(30)}
    units |= {f"{stratum} no tag": 100 for stratum in units}
    found = quotas(units, 110)
    assert sum(found.values()) == 110
    assert sum(count for stratum, count in found.items() if stratum.endswith("no tag")) == 10
    assert quotas(units, 130) == allocate(units, 130), "room for all: at least one each"


def test_farthest_first_takes_each_cluster_before_a_second_of_any_and_keeps_to_the_quotas() -> None:
    centres = np.eye(5, dtype=np.float32) * 10
    vectors = np.repeat(centres, 20, axis=0) + np.random.default_rng(0).normal(0, 0.01, (100, 5)).astype(np.float32)
    strata = ["a", "b"] * 50
    picked = farthest_first(vectors, strata, {"a": 2, "b": 3}, 5, first=7)
    assert sorted(i // 20 for i in picked) == [0, 1, 2, 3, 4]
    assert sorted(strata[i] for i in picked) == ["a", "a", "b", "b", "b"]
    assert len(set(farthest_first(vectors, strata, {"a": 1}, 60, first=0))) == 60


def test_near_copies_have_like_signatures_and_others_do_not() -> None:
    texts = [letters(NOTICE.format(*who)) for who in (("王先生", "小李"), ("欧阳女士", "陈经理"))]
    found = signatures([*texts, letters(RARE), "", "房", texts[0]])
    assert alike(found[0], found[:2])[1] > 0.7
    assert alike(found[0], found)[2] < 0.1
    assert (bands(found)[0] == bands(found)[5]).all()
    assert len(np.unique(bands(found)[:5], axis=0)) == 5
    # The same text among others and alone: pieces do not reach over the border.
    assert (signatures([letters(RARE)])[0] == found[2]).all()
    assert leaders(found)[5] == 0


def test_courtesies_amounts_and_placeholders_do_not_tell_texts_apart() -> None:
    one, other = (
        letters(essence(t)) for t in (["您好", "我想存50万定期"], ["[姓名]早上好！", "我想存 30万 定期", "谢谢"])
    )
    assert one == other == "我想存万定期"
    assert essence(["您好", "谢谢", "[图片]"]) == ""


def test_units_stand_for_their_copies_and_for_their_part_of_what_was_not_drawn() -> None:
    rng, totals = np.random.default_rng(0), []
    copies = np.array([500] + [20] * 10 + [1] * 300)
    for _ in range(200):
        race = rng.exponential(1.0, len(copies)) / copies
        order = np.argsort(race)
        drawn, places = pd.Series(copies[order][:41]), pd.Series(race[order][:41])
        weight = drawn_for(drawn, places, 40, int(copies.sum()))
        assert weight.sum() == pytest.approx(copies.sum())
        assert (weight >= drawn[:40]).all()
        assert weight.iloc[int(drawn[:40].argmax())] == pytest.approx(500, rel=0.01)
        totals.append(weight[drawn[:40] == 1].sum())
    assert np.mean(totals) == pytest.approx(300, rel=0.05)


def test_weights_add_up_and_near_copies_go_with_the_chosen_one() -> None:
    texts = [letters(RARE)] * 3 + ["".join(chr(0x4E00 + 97 * i + j) for j in range(12)) for i in range(84)]
    frame = pd.DataFrame({"stratum": ["a", "b"] * 43 + ["a"], "copies": 2, "weight": 10.0})
    vectors = np.random.default_rng(1).normal(size=(87, 8)).astype(np.float32)
    chosen = choose(frame, vectors, signatures(texts), {"a": 5, "b": 5}, 10)
    assert len(chosen) == 10
    assert chosen["weight"].sum() == 870
    everything = choose(frame, vectors, signatures(texts), {"a": 60, "b": 60}, 120)
    assert len(everything) == 85
    assert everything["copies"].iloc[0] == 6 and everything["weight"].iloc[0] == 30


def conversations(tables: Tables, partitions: int) -> None:
    """1,000 forwarded notices, 1,600 other chats in two channels, two of them with a rare wish."""
    picker, rows = random.Random(5), []
    for number in range(2600):
        if number < 1000:
            said = ["您好", NOTICE.format(picker.choice("王李张刘陈") + "女士", picker.choice("赵钱孙周吴"))]
        elif number in (1500, 2100):
            said = [picker.choice(["您好", "在吗"]), RARE]
        else:
            said = ["在吗", f"{picker.choice(WHENS)}{picker.choice(SUBJECTS)}{picker.choice(VERBS)}", "谢谢"]
        turns = [{"turn": i, "speaker": "customer", "text": text} for i, text in enumerate(said)]
        rows.append((f"c{number}", "app" if number % 3 else "phone", "p", turns, len(turns), f"h{number}", 0))
    schema = (
        "conversation_id string, channel string, party_key string, "
        "turns array<struct<turn:int,speaker:string,text:string>>, n_turns int, content_hash string, redactions int"
    )
    frame = tables.spark.createDataFrame(rows, schema).repartition(partitions)
    late = F.lit("2026-11-20T01:00:00Z").cast("timestamp")
    nothing = F.lit(None).cast("string")
    frame = frame.withColumns({"started_at": late, "advisor_id": nothing, "lang": nothing})
    tables.write("conversations", frame, NIGHT)


def sampled(tables: Tables, settings: Settings, partitions: int) -> list[tuple[object, ...]]:
    conversations(tables, partitions)
    assert "of 2600 conversations" in sample(tables, settings, NIGHT)
    columns = ("conversation_id", "stratum", "copies", "weight", "share", "stratum_population")
    rows = tables.read("samples", NIGHT).select(*columns).orderBy("conversation_id").collect()
    return [tuple(row) for row in rows]


@pytest.mark.spark
def test_a_mass_message_is_one_sample_a_rare_wish_is_found_and_partitions_do_not_matter(
    tables: Tables, settings: Settings
) -> None:
    wanted = settings.sample.model_copy(update={"size": 40})
    settings = settings.model_copy(update={"sample": wanted})
    first = sampled(tables, settings, 7)
    chosen = {str(row[0]): row for row in first}
    notices = [row for name, row in chosen.items() if int(name[1:]) < 1000]
    assert len(notices) == 1
    assert notices[0][2] == 1000
    assert notices[0][3] == pytest.approx(1000, rel=0.02)
    # At random two of 2,600 are among 40 in 3 samples of 100.
    assert {"c1500", "c2100"} & set(chosen)
    assert len(first) == 40
    assert sum(float(str(row[3])) for row in first) == pytest.approx(2600)
    assert sum(float(str(row[4])) for row in first) == pytest.approx(1)
    assert {row[1]: row[5] for row in first} == {f"app {NIGHT}": 1733, f"phone {NIGHT}": 867}
    assert sampled(tables, settings, 2) == first


@pytest.mark.spark
def test_strata_that_are_not_in_the_sample_are_said(tables: Tables, settings: Settings) -> None:
    conversations(tables, 2)
    one = settings.model_copy(update={"sample": settings.sample.model_copy(update={"size": 1})})
    said = sample(tables, one, NIGHT)
    (row,) = tables.read("samples", NIGHT).select("stratum", "weight").collect()
    left = {f"app {NIGHT}": "33.3%", f"phone {NIGHT}": "66.7%"}[row["stratum"]]
    assert f"1 of 2 strata, {left} of the conversations, gave none: what is nearest of the others stands for" in said
    assert row["weight"] == pytest.approx(2600)
    all_in = settings.model_copy(update={"sample": settings.sample.model_copy(update={"size": 40})})
    assert "gave none" not in sample(tables, all_in, NIGHT)


@pytest.mark.spark
def test_every_stratum_has_a_candidate_however_many_there_are(tables: Tables) -> None:
    rows = [(f"c{i}", NIGHT, f"branch {i % 6}", [SUBJECTS[i % 12] + VERBS[i // 3]]) for i in range(18)]
    schema = "conversation_id string, conversation_ds string, stratum string, said array<string>"
    found = draw(tables.spark.createDataFrame(rows, schema), 18, 4, seed=17)
    assert len(found.units) == 6 and set(found.candidates["stratum"]) == set(found.units)
    assert found.candidates["weight"].sum() == pytest.approx(18)


@pytest.mark.spark
def test_shares_that_do_not_sum_to_the_population_are_refused(tables: Tables, settings: Settings) -> None:
    row = {"conversation_ds": NIGHT, "stratum": "app", "stratum_population": 3, "copies": 1}
    for share, holds in ((1 / 3, True), (0.3, False)):
        rows = [row | {"conversation_id": f"c{i}", "weight": 1.0, "share": share} for i in range(3)]
        write(tables, "samples", rows, NIGHT)
        if holds:
            assert check_table(tables, "samples", NIGHT, settings.var_dir / "checks") > 0
        else:
            with pytest.raises(ContractError, match=r"samples.share: .*sum to 1.*found 0\.8999"):
                check_table(tables, "samples", NIGHT, settings.var_dir / "checks")
