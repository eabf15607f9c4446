from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from jobs.errors import GateError, InputError
from jobs.gate import gate
from jobs.profile import profile
from jobs.profiling import PROFILE_TABLES
from jobs.profiling import pots as pots_module
from jobs.profiling.pots import Mention, fold_pots
from jobs.quality import check_table
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.lineage import next_version
from jobs.taxonomies.store import Approval, add_version
from jobs.taxonomy import load_taxonomy
from tests.night_facts import score_row, write
from tests.profile_facts import (
    FIRST,
    SECOND,
    THIRD,
    Tag,
    Talk,
    customer,
    money,
    rows_of,
    write_labels,
    write_night,
    write_scores,
)

PURPOSES = ("retirement", "child_education", "home_purchase", "protection", "inheritance")
ORDER = ("retirement", "child_education", "home_purchase", "growth", "preservation", "liquidity", "inheritance")


def mention(talk: str, night: str, tag: str, amount: float | None = None, **values: Any) -> Mention:
    defaults: dict[str, Any] = {"party_key": "p", "confidence": 0.9, "quality": "met", "turns": frozenset({1})}
    defaults["label"] = tag
    defaults["when"] = f"{night}T09:00:00"
    defaults["day"] = (defaults | values)["when"][:10]
    return Mention(
        conversation_id=talk,
        night=night,
        tag_id=tag,
        rank=ORDER.index(tag),
        amount=amount,
        currency="CNY" if amount is not None else None,
        **(defaults | values),
    )


def pots(*mentions: Mention) -> list[tuple[str, float | None, set[str], int]]:
    folded = fold_pots(mentions, PURPOSES, 90)
    return [(pot.tag_id, pot.amount, pot.also, pot.mentions) for pot in folded]


def test_purpose_names_the_pot_and_the_way_of_holding_stands_beside_it() -> None:
    found = pots(
        mention("a", FIRST, "preservation", 300_000, turns=frozenset({7})),
        mention("a", FIRST, "child_education", 300_000, turns=frozenset({3})),
    )
    assert found == [("child_education", 300_000, {"preservation"}, 1)]


def test_shared_evidence_is_the_same_money_when_one_amount_is_unknown() -> None:
    assert pots(mention("a", FIRST, "preservation"), mention("a", FIRST, "child_education", 300_000)) == [
        ("child_education", 300_000, {"preservation"}, 1)
    ]
    apart = mention("a", FIRST, "preservation", turns=frozenset({5}))
    assert len(pots(apart, mention("a", FIRST, "child_education", 300_000))) == 2


def test_different_amounts_and_different_purposes_are_different_pots() -> None:
    assert len(pots(mention("a", FIRST, "preservation", 5e5), mention("a", FIRST, "child_education", 3e5))) == 2
    assert len(pots(mention("a", FIRST, "inheritance", 5e5), mention("a", FIRST, "child_education", 5e5))) == 2


def test_without_a_purpose_the_taxonomy_decides() -> None:
    assert pots(mention("a", FIRST, "liquidity", 5e5), mention("a", FIRST, "growth", 5e5)) == [
        ("growth", 5e5, {"liquidity"}, 1)
    ]


def test_a_pot_spoken_of_again_keeps_its_id_and_takes_the_newest_known_values() -> None:
    first = mention("a", FIRST, "growth", horizon_months=36.0, risk_preference="high")
    second = mention("b", SECOND, "growth", 300_000, horizon_months=24.0)
    [before], [after] = fold_pots([first], PURPOSES, 90), fold_pots([second, first], PURPOSES, 90)
    assert after.intent_id == before.intent_id
    assert (after.amount, after.horizon_months, after.risk_preference) == (300_000, 24.0, "high")
    assert after.needed_by == "2028-11-19"
    assert (after.first.night, after.last.night, after.mentions) == (FIRST, SECOND, 2)


def test_a_talk_that_is_delivered_late_ends_no_pot_before_it_begins() -> None:
    late = mention("a", "2026-11-20", "home_purchase", 5e5, when="2026-05-01T09:00:00")
    [pot] = fold_pots([mention("b", "2026-06-01", "home_purchase", 5e5), late], PURPOSES, 365)
    assert (pot.first_seen, pot.last_seen, pot.mentions) == ("2026-06-01", "2026-11-20", 2)


def test_a_talk_that_is_delivered_late_counts_from_its_own_day_and_leaves_the_pot_its_id() -> None:
    known = mention("b", "2026-06-01", "home_purchase", 5e5)
    late = mention("a", "2026-11-20", "home_purchase", 5e5, when="2026-05-01T09:00:00", horizon_months=12.0)
    [before], [after] = fold_pots([known], PURPOSES, 90), fold_pots([known, late], PURPOSES, 90)
    assert after.needed_by == "2027-05-01"
    assert after.intent_id == before.intent_id
    assert (after.last.conversation_id, after.mentions) == ("b", 2)
    # It was said in May: that it came in November keeps no pot open for half a year.
    later = mention("c", "2026-10-30", "home_purchase", 5e5)
    assert [pot.mentions for pot in fold_pots([known, late, later], PURPOSES, 90)] == [2, 1]


@pytest.mark.parametrize(
    ("months", "day"),
    [(0.23, "2026-11-25"), (0.5, "2026-12-03"), (2.5, "2027-02-02"), (3.0, "2027-02-18"), (3.5, "2027-03-05")],
)
def test_half_a_month_is_fifteen_days_whatever_the_month(months: float, day: str) -> None:
    [pot] = fold_pots([mention("a", FIRST, "growth", horizon_months=months)], PURPOSES, 90)
    assert pot.needed_by == day


def test_words_stay_as_long_as_a_value_that_was_read_from_them() -> None:
    amount = mention("a", FIRST, "growth", 5e5, said=("50万",))
    risk = mention("b", SECOND, "growth", risk_preference="low", said=("稳一点",))
    both = mention("c", THIRD, "growth", 5e5, risk_preference="high", said=("50万可以冒险",))
    assert [pot.said for pot in fold_pots([amount, risk], PURPOSES, 90)] == [("稳一点", "50万")]
    assert [pot.said for pot in fold_pots([amount, risk, both], PURPOSES, 90)] == [("50万可以冒险",)]
    again = mention("c", THIRD, "growth", risk_preference="high", said=("可以冒险",))
    assert [pot.said for pot in fold_pots([amount, risk, again], PURPOSES, 90)] == [("可以冒险", "50万")]


def test_conflicting_amount_or_a_long_silence_opens_a_new_pot() -> None:
    assert len(pots(mention("a", FIRST, "growth", 3e5), mention("b", SECOND, "growth", 5e5))) == 2
    dollars = mention("b", SECOND, "growth", 3e5)
    assert len(fold_pots([mention("a", FIRST, "growth", 3e5), dollars], PURPOSES, 90)) == 1
    assert len(pots(mention("a", "2026-01-01", "growth", 3e5), mention("b", "2026-04-02", "growth", 3e5))) == 2
    assert len(pots(mention("a", "2026-01-01", "growth", 3e5), mention("b", "2026-04-01", "growth", 3e5))) == 1


def test_a_known_amount_goes_to_the_pot_with_that_amount() -> None:
    found = pots(
        mention("a", FIRST, "growth", 3e5),
        mention("b", SECOND, "growth", 5e5),
        mention("c", THIRD, "growth", 3e5),
        mention("d", "2026-11-21", "growth"),
    )
    assert found == [("growth", 3e5, set(), 3), ("growth", 5e5, set(), 1)]


def test_a_way_of_holding_said_alone_later_joins_the_pot_it_stands_beside() -> None:
    found = pots(
        mention("a", FIRST, "preservation", 3e5),
        mention("a", FIRST, "child_education", 3e5),
        mention("b", SECOND, "preservation", 3e5),
    )
    assert found == [("child_education", 3e5, {"preservation"}, 2)]


def test_a_purpose_said_after_the_way_of_holding_names_the_pot_that_is_there() -> None:
    way, purpose = mention("a", FIRST, "preservation", 3e5), mention("b", SECOND, "child_education", 3e5)
    [before], [after] = fold_pots([way], PURPOSES, 90), fold_pots([way, purpose], PURPOSES, 90)
    assert (after.tag_id, after.also, after.mentions) == ("child_education", {"preservation"}, 2)
    assert after.intent_id == before.intent_id
    beside = replace(way, conversation_id="b", night=SECOND, day=SECOND, when=purpose.when)
    assert pots(way, beside, purpose) == [("child_education", 3e5, {"preservation"}, 2)]
    again = mention("c", THIRD, "preservation", 3e5)
    assert pots(way, purpose, again) == [("child_education", 3e5, {"preservation"}, 3)]
    # Another amount, or one that nobody named, is not the same money; nor is what has its purpose already.
    assert len(pots(way, mention("b", SECOND, "child_education", 5e5))) == 2
    assert len(pots(way, mention("b", SECOND, "child_education"))) == 2
    assert len(pots(way, purpose, mention("c", THIRD, "home_purchase", 3e5))) == 2


def test_tags_of_an_earlier_version_are_pots_of_what_they_became() -> None:
    then = [mention("a", FIRST, "home_purchase", 3e5, label="house"), mention("a", FIRST, "preservation", 3e5)]
    now = mention("b", SECOND, "home_purchase", 3e5)
    [before], [after] = fold_pots(then, PURPOSES, 90), fold_pots([*then, now], PURPOSES, 90)
    assert (after.tag_id, after.mentions, after.intent_id) == ("home_purchase", 2, before.intent_id)
    both = [mention("a", FIRST, "home_purchase", 3e5, label=label) for label in ("house", "flat")]
    assert pots(*both) == [("home_purchase", 3e5, set(), 1)]


def test_a_pot_is_as_proven_as_the_purpose_that_names_it() -> None:
    way = mention("a", FIRST, "preservation", 3e5, quality="unproven")
    [pot] = fold_pots([way, mention("b", SECOND, "child_education", 3e5)], PURPOSES, 90)
    assert pot.quality == "met"


def test_a_mention_of_a_long_history_is_held_against_open_pots_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, joins = [0], pots_module._joins

    def counting(*args: Any) -> bool:
        looked_at[0] += 1
        return joins(*args)

    monkeypatch.setattr(pots_module, "_joins", counting)
    nights = [(date(2000, 1, 1) + timedelta(days=day)).isoformat() for day in range(1_000)]
    found = fold_pots([mention(f"t{n}", night, "growth", 1e5 + n) for n, night in enumerate(nights)], PURPOSES, 90)
    assert len(found) == 1_000
    assert looked_at[0] <= 90 * 1_000


TALKS = (
    Talk(
        "t1",
        "li-wecom",
        (
            Tag("child_education", 0.8, (1,), money(300_000.0, horizon_months=36.0)),
            Tag("preservation", 0.7, (2,), money(300_000.0)),
            Tag("maturity", 0.95, (0, 1)),
        ),
    ),
    Talk("t2", "wang", (Tag("cannot_tell", turns=()),), channel="phone"),
    Talk("t3", "chen"),
)
PEOPLE = {"li-wecom": "li-wecom", "wang": "wang", "chen": "chen"}
LATER = (Talk("t4", "li-app", (Tag("child_education", 0.9, (0,), money()), Tag("complaint")), channel="app"),)
MERGED = PEOPLE | {"li-app": "li-wecom"}


def test_the_four_tables_of_a_night_and_their_contracts(tables: Tables, settings: Settings) -> None:
    write_night(tables, FIRST, TALKS, PEOPLE)
    write_night(tables, SECOND, LATER, MERGED)
    write_scores(tables, SECOND, {"child_education": "met", "maturity": "below"})
    counts = profile(tables, settings, SECOND)
    assert counts == {"customer_profile": 3, "customer_tags": 4, "customer_timeline": 2, "investment_intents": 1}

    li = next(r for r in rows_of(tables, "customer_profile", SECOND) if r["customer_id"] == customer("li-wecom"))
    assert li == {
        "customer_id": customer("li-wecom"),
        "first_contact": FIRST,
        "last_contact": SECOND,
        "conversations": 2,
        "channels": "app,wecom",
        "tags": "child_education,complaint,maturity,preservation",
        "open_intents": 1,
        "last_mot": "complaint",
        "last_mot_at": SECOND,
        "advisor_id": "A-t4",
    }
    chen = next(r for r in rows_of(tables, "customer_profile", SECOND) if r["customer_id"] == customer("chen"))
    assert (chen["tags"], chen["open_intents"], chen["last_mot"]) == ("", 0, None)

    education = next(r for r in rows_of(tables, "customer_tags", SECOND) if r["tag_id"] == "child_education")
    assert (education["valid_from"], education["last_seen"], education["valid_to"]) == (FIRST, SECOND, None)
    assert (education["times"], education["confidence"], education["quality"]) == (2, 0.9, "met")

    maturity = next(r for r in rows_of(tables, "customer_timeline", SECOND) if r["tag_id"] == "maturity")
    assert (maturity["happened_at"], maturity["evidence"]) == (f"{FIRST}T09:00:00Z", "第0句 … 第1句")
    assert (maturity["conversation_ds"], maturity["quality"]) == (FIRST, "below")

    [pot] = rows_of(tables, "investment_intents", SECOND)
    assert (pot["tag_id"], pot["also_tags"], pot["amount"], pot["mentions"]) == (
        "child_education",
        "preservation",
        300_000.0,
        2,
    )
    assert (pot["first_seen"], pot["last_seen"], pot["conversation_id"]) == (FIRST, SECOND, "t4")
    for name in PROFILE_TABLES:
        assert check_table(tables, name, SECOND, settings.var_dir / "checks") > 0


def test_a_night_is_the_same_however_often_it_runs_and_touches_no_other(tables: Tables, settings: Settings) -> None:
    write_night(tables, FIRST, TALKS, PEOPLE)
    profile(tables, settings, FIRST)
    old = {name: rows_of(tables, name, FIRST) for name in PROFILE_TABLES}
    write_night(tables, SECOND, LATER, MERGED)
    profile(tables, settings, SECOND)
    new = {name: rows_of(tables, name, SECOND) for name in PROFILE_TABLES}
    profile(tables, settings, FIRST)
    assert {name: rows_of(tables, name, FIRST) for name in PROFILE_TABLES} == old
    assert {name: rows_of(tables, name, SECOND) for name in PROFILE_TABLES} == new
    assert old != new


def test_the_latest_night_that_labelled_a_conversation_wins(tables: Tables, settings: Settings) -> None:
    write_night(tables, FIRST, TALKS, PEOPLE)
    write_night(tables, SECOND, LATER, MERGED)
    relabelled = [Talk("t1", "li-wecom"), Talk("t3", "chen", (Tag("complaint"),))]
    profile(tables, settings, FIRST)
    assert {r["tag_id"] for r in rows_of(tables, "customer_tags", FIRST)} >= {"maturity"}
    write_labels(tables, SECOND, relabelled, conversation_ds=FIRST)
    profile(tables, settings, SECOND)
    found = {(r["customer_id"], r["tag_id"]) for r in rows_of(tables, "customer_tags", SECOND)}
    assert found == {(customer("chen"), "complaint")}
    profile(tables, settings, FIRST)
    assert {r["tag_id"] for r in rows_of(tables, "customer_tags", FIRST)} >= {"maturity"}


def test_labels_that_the_gate_refused_wait_for_a_verdict_that_passes_them(tables: Tables, settings: Settings) -> None:
    write_night(tables, FIRST, TALKS, PEOPLE)  # of before there were verdicts
    write_night(tables, SECOND, LATER, MERGED)
    write_labels(tables, SECOND, [Talk("t3", "chen", (Tag("complaint"),))], conversation_ds=FIRST)
    write(tables, "scores", [score_row("cascade", "test", "micro", tp=10, fp=40, fn=0)], SECOND)
    with pytest.raises(GateError, match="under the floor"):
        gate(tables, settings, SECOND)
    with pytest.raises(GateError, match="refused this night's labels"):
        profile(tables, settings, SECOND)
    write_night(tables, THIRD, [Talk("t5", "wang", (Tag("growth"),))], MERGED)

    def folded() -> tuple[set[tuple[str, str]], str]:
        said: list[str] = []
        profile(tables, settings, THIRD, said.append)
        rows = rows_of(tables, "customer_tags", THIRD)
        return {(row["customer_id"], row["tag_id"]) for row in rows}, " ".join(said)

    before, said = folded()
    assert f"{SECOND} (refused)" in said and FIRST not in said
    assert {(customer("li-wecom"), "maturity"), (customer("wang"), "growth")} <= before
    assert (customer("chen"), "complaint") not in before
    # Mended and judged anew, or the floor lowered by a person.
    write(tables, "scores", [score_row("cascade", "test", "micro", tp=50, fp=0, fn=0)], SECOND)
    gate(tables, settings, SECOND)
    after, said = folded()
    assert (after - before, said) == ({(customer("chen"), "complaint")}, "")


def test_a_tag_not_said_again_lapses_and_starts_anew(tables: Tables, settings: Settings) -> None:
    people = {"chen": "chen"}
    for number, night in enumerate(("2026-01-01", "2026-04-01", "2026-07-01")):
        write_night(tables, night, [Talk(f"n{number}", "chen", (Tag("complaint", 0.5 + number / 10),))], people)
    profile(tables, settings, "2026-07-01")
    assert [
        (r["valid_from"], r["last_seen"], r["valid_to"], r["times"], r["confidence"])
        for r in rows_of(tables, "customer_tags", "2026-07-01")
    ] == [("2026-01-01", "2026-04-01", "2026-07-01", 2, 0.6), ("2026-07-01", "2026-07-01", None, 1, 0.7)]


def test_purposes_follow_tags_that_were_merged(tables: Tables, settings: Settings) -> None:
    first = load_taxonomy(settings.resolve(settings.label.taxonomy))
    kept = [tag for tag in first.tags if tag.id not in ("child_education", "retirement")]
    heir = replace(
        first.tag("retirement"), id="family", name="家庭目标", extra={"replaces": ["child_education", "retirement"]}
    )
    merged = next_version(first, replace(first, tags=(*kept, heir)))
    add_version(settings, merged, Approval("anna", "2026-11-19T00:00:00Z", SECOND))
    people, holding = {"li-wecom": "li-wecom"}, Tag("preservation", 0.7, (2,), money(300_000.0))
    write_night(
        tables, FIRST, [Talk("t1", "li-wecom", (Tag("child_education", 0.8, (1,), money(300_000.0)), holding))], people
    )
    profile(tables, settings, FIRST)
    write_night(tables, SECOND, [Talk("t2", "li-wecom", (Tag("family", 0.9, (0,), money(300_000.0)),))], people)
    said: list[str] = []
    profile(tables, settings, SECOND, said.append)
    [before], [after] = (rows_of(tables, "investment_intents", night) for night in (FIRST, SECOND))
    assert (before["tag_id"], before["also_tags"]) == ("child_education", "preservation")
    assert (after["tag_id"], after["also_tags"], after["mentions"]) == ("family", "preservation", 2)
    assert (after["intent_id"], said) == (before["intent_id"], [])


def test_withholding_keeps_unproven_tags_out_of_every_table(tables: Tables, settings: Settings) -> None:
    strict = settings.model_copy(update={"gate": settings.gate.model_copy(update={"unproven": "withhold"})})
    write_night(tables, FIRST, TALKS, PEOPLE)
    with pytest.raises(InputError, match="scores"):
        profile(tables, strict, FIRST)
    write_scores(tables, FIRST, {"preservation": "met", "maturity": "unproven"})
    profile(tables, strict, FIRST)
    assert {r["tag_id"] for r in rows_of(tables, "customer_tags", FIRST)} == {"preservation"}
    assert rows_of(tables, "customer_timeline", FIRST) == []
    assert [r["tag_id"] for r in rows_of(tables, "investment_intents", FIRST)] == ["preservation"]
    li = next(r for r in rows_of(tables, "customer_profile", FIRST) if r["customer_id"] == customer("li-wecom"))
    assert (li["tags"], li["last_mot"]) == ("preservation", None)


def test_facts_that_are_missing_stop_the_stage(tables: Tables, settings: Settings) -> None:
    with pytest.raises(InputError, match="conversations has no complete night"):
        profile(tables, settings, FIRST)
    write_night(tables, FIRST, TALKS, {"wang": "wang"})
    with pytest.raises(GateError, match="2 conversations belong to nobody"):
        profile(tables, settings, FIRST)
