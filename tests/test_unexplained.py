"""The share of a night that no tag explains, and that sample and induction keep such conversations apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.induce import _sample_labels
from jobs.report.data import collect_night
from jobs.sample import sample
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.moves import sampled_chats
from jobs.taxonomies.review import Reviewer, approve
from jobs.taxonomy import Tag, Taxonomy, dump_taxonomy
from jobs.unexplained import Unexplained, unexplained
from tests.night_facts import write

NIGHT, NEXT = "2026-11-20", "2026-11-21"
START = datetime(2026, 11, 20, 1, tzinfo=UTC)
SUBJECTS = ("房贷", "定存", "基金", "黄金", "保险", "理财", "信用卡", "外汇", "养老金", "国债")
SECOND = Taxonomy(
    "small",
    2,
    (
        Tag("redeem", "赎回", "客户要赎回。", extra={"replaces": ["sell", "move"]}),
        Tag("card_fees", "卡费", "问卡费。", extra={"replaces": ["fees"]}),
        Tag("account_fees", "账户费", "问账户费。", extra={"replaces": ["fees"]}),
        *(Tag(i, i, "旧的。", status="deprecated") for i in ("sell", "move", "fees", "gone")),
    ),
)
VERBS = ("怎么提前还", "利率是多少", "能不能转出来", "最近亏了要不要卖")


def labels(tags: Sequence[str]) -> list[dict[str, Any]]:
    """Labels of the forty: of thirty no tag applies, five have `tags`, of three the LLM could not tell."""
    given = {"confidence": 0.9, "evidence": [], "labeller": "llm", "model": "m", "taxonomy_version": 1}
    rows = [(number, "none") for number in range(30)] + [(number, "cannot_tell") for number in range(35, 38)]
    rows += [(number, tag) for number in range(30, 35) for tag in tags]
    key = {"conversation_ds": NIGHT, "content_hash": "h"}
    return [key | given | {"conversation_id": f"c{number}", "tag_id": tag} for number, tag in rows]


@pytest.fixture
def labelled(tables: Tables) -> Tables:
    """Forty conversations, the last two wait for the LLM."""
    chats: list[dict[str, Any]] = []
    outcomes: list[dict[str, Any]] = []
    for number in range(40):
        name, text = f"c{number}", SUBJECTS[number % 10] + VERBS[number // 10]
        turns = [{"turn": 0, "speaker": "customer", "text": text}]
        chat = {"conversation_id": name, "channel": "wecom", "party_key": "p", "turns": turns, "n_turns": 1}
        chats.append(chat | {"started_at": START, "content_hash": name, "redactions": 0})
        status = "labelled" if number < 38 else "pending"
        outcome = {"conversation_id": name, "conversation_ds": NIGHT, "status": status}
        outcomes.append(outcome | {"tags": int(30 <= number < 35), "attempts": 1, "llm_asked": False})
    write(tables, "conversations", chats, NIGHT)
    write(tables, "label_outcomes", outcomes, NIGHT)
    write(tables, "labels", labels(["sell"]), NIGHT)
    return tables


@pytest.mark.spark
def test_the_share_that_no_tag_explains_is_held_against_the_threshold(labelled: Tables, settings: Settings) -> None:
    found = unexplained(labelled, settings, NIGHT)
    assert (found.labelled, found.untagged, found.due) == (38, 30, True)
    assert "no tag applies to 30 of 38 labelled conversations (79%, at least 64%)" in str(found)
    often = settings.model_copy(update={"sample": settings.sample.model_copy(update={"unexplained": 0.7})})
    assert not unexplained(labelled, often, NIGHT).due  # 79%, but so few conversations do not prove 70%


@pytest.mark.spark
def test_a_sample_keeps_them_in_strata_of_their_own(labelled: Tables, settings: Settings) -> None:
    small = settings.model_copy(update={"sample": settings.sample.model_copy(update={"size": 10})})
    sample(labelled, small, NIGHT)
    rows = labelled.read("samples", NIGHT).select("conversation_id", "stratum", "weight", "share").collect()
    strata = Counter(row["stratum"] for row in rows)
    assert set(strata) == {f"wecom {NIGHT}", f"wecom {NIGHT} no tag"}
    assert strata[f"wecom {NIGHT} no tag"] in (7, 8)
    assert all((int(row["conversation_id"][1:]) < 30) == row["stratum"].endswith("no tag") for row in rows)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    some, weights = sampled_chats(labelled, NIGHT, 4)
    assert len(some) == 4 and {c.conversation_id for c in some} == set(weights)
    assert weights.items() <= {row["conversation_id"]: row["weight"] for row in rows}.items()
    assert sampled_chats(labelled, NIGHT, 4) == (some, weights) and all(c.customer_text for c in some)


@pytest.fixture
def second_version(settings: Settings, tmp_path: Path) -> Settings:
    """Version 1 has the tag `sell`; `loans` came with version 2, which holds from the next night on."""
    first = Taxonomy("small", 1, (Tag("sell", "卖出", "客户要卖出。"),))
    (tmp_path / "small.yaml").write_text(dump_taxonomy(first), "utf-8")
    label = settings.label.model_copy(update={"taxonomy": str(tmp_path / "small.yaml")})
    sampled = settings.sample.model_copy(update={"size": 10})
    settings = settings.model_copy(update={"label": label, "sample": sampled})
    mine = tmp_path / "mine.yaml"
    tags = (*first.tags, Tag("loans", "贷款", "客户要贷款。"))
    mine.write_text(dump_taxonomy(Taxonomy("small", 2, tags)), "utf-8")
    approve(settings, Reviewer("Ana"), file=mine, from_ds=NEXT)
    return settings


@pytest.mark.spark
def test_none_of_before_a_tag_was_added_calls_for_no_new_tag(labelled: Tables, second_version: Settings) -> None:
    def strata() -> set[str]:
        sample(labelled, second_version, NIGHT)
        return {row["stratum"] for row in labelled.read("samples", NIGHT).collect()}

    assert strata() == {f"wecom {NIGHT}"}
    again = [row | {"taxonomy_version": 2} for row in labels(["sell"])]
    write(labelled, "labels", again, NIGHT)
    assert strata() == {f"wecom {NIGHT}", f"wecom {NIGHT} no tag"}, "asked under all tags that there are"


@pytest.mark.spark
def test_the_nightly_share_is_of_the_nights_own_labels(labelled: Tables, second_version: Settings) -> None:
    """What was answered `none` on earlier nights, before a tag was added, is no part of it."""
    outcome = {"conversation_id": "n0", "conversation_ds": NEXT, "status": "labelled", "tags": 1, "attempts": 1}
    write(labelled, "label_outcomes", [outcome | {"llm_asked": False}], NEXT)
    tagged = labels(["loans"])[-1] | {"conversation_id": "n0", "conversation_ds": NEXT, "taxonomy_version": 2}
    write(labelled, "labels", [tagged], NEXT)
    found = unexplained(labelled, second_version, NEXT)
    assert (found.labelled, found.untagged) == (1, 0)
    assert unexplained(labelled, second_version, NIGHT).untagged == 30, "as that night's taxonomy had it"


@pytest.mark.spark
def test_the_share_is_the_one_in_the_report(labelled: Tables) -> None:
    for name in ("quarantine", "scores", "llm_trust", "tag_promises", "gold"):
        write(labelled, name, [], NIGHT)
    flow = collect_night(labelled, NIGHT).flow
    assert (flow.labelled, flow.tagged, flow.no_tag, flow.undecided) == (38, 5, 30, 3)


@pytest.mark.spark
def test_induction_reads_old_labels_as_the_tags_are_called_now(labelled: Tables) -> None:
    """`sell` and `move` were merged into `redeem`; `fees` was split, `gone` ended."""
    names = [f"c{number}" for number in range(40)]
    row = {"conversation_ds": NIGHT, "stratum": "wecom", "stratum_population": 40, "copies": 1, "weight": 1.0}
    write(labelled, "samples", [row | {"conversation_id": name, "share": 1 / 40} for name in names], NIGHT)

    def known(*tags: str) -> dict[str, list[str]]:
        """What induction takes for judged where five conversations have these tags, without those that have none."""
        write(labelled, "labels", labels(tags), NIGHT)
        found = _sample_labels(labelled, NIGHT, SECOND, {1})
        assert {name for name, now in found.items() if not now} >= set(names[:30])
        return {name: now for name, now in found.items() if name not in names[:30]}

    merged = {name: ["redeem"] for name in names[30:35]}
    assert known("sell") == known("redeem") == known("sell", "move") == known("fees", "sell") == merged
    assert known("gone") == {name: [] for name in names[30:35]}
    assert known("fees") == {}  # what it was split into has not been asked about
    assert not set(_sample_labels(labelled, NIGHT, SECOND, {2})) & set(names[:30]), "nor has a tag that was added"


def test_a_night_without_conversations_asks_for_nothing() -> None:
    assert not Unexplained(0, 0, 0.0, 0.5).due
    assert "0 of 0" in str(Unexplained(0, 0, 0.0, 0.5))
