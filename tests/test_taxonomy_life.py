from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.errors import InputError
from jobs.gold import read_annotations
from jobs.settings import Settings
from jobs.taxonomies.cli import app
from jobs.taxonomies.lineage import asks_all, current_labels, next_version, with_heirs, without
from jobs.taxonomies.proposals import decision_on, proposal_folder
from jobs.taxonomies.review import Reviewer, approve, reject
from jobs.taxonomies.store import (
    Approval,
    Version,
    add_version,
    all_versions,
    approved_taxonomy,
    version_of,
    versions_folder,
)
from jobs.taxonomy import Tag, Taxonomy, dump_taxonomy
from jobs.taxonomy_diff import diff_taxonomies, to_markdown

NIGHT, NEXT = "2026-11-20", "2026-11-21"
ANA = Reviewer("Ana", "looks right")
FIRST = Taxonomy(
    "small",
    1,
    (
        Tag("maturity", "到期承接", "产品到期要接续。"),
        Tag("redemption", "赎回转出", "想卖出或转走。"),
        Tag("fees", "收费", "问收费。"),
        Tag("service", "服务", "问服务。"),
    ),
)
# renamed, split, merged and added, all at once
PROPOSED = Taxonomy(
    "small",
    2,
    (
        Tag("maturity", "到期", "产品到期要接续。", status="proposed"),
        Tag("sell", "卖出", "想卖出。", status="proposed", extra={"replaces": ["redemption"]}),
        Tag("move", "转走", "想把钱转走。", status="proposed", extra={"replaces": ["redemption"]}),
        Tag("help", "咨询", "问收费或服务。", status="proposed", extra={"replaces": ["fees", "service"]}),
        Tag("gold_bars", "金条", "想买金条。", status="proposed"),
    ),
    status="proposed",
)


@pytest.fixture
def life(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "small.yaml").write_text(dump_taxonomy(FIRST), "utf-8")
    label = settings.label.model_copy(update={"taxonomy": str(tmp_path / "small.yaml")})
    return settings.model_copy(update={"label": label})


def propose(settings: Settings, ds: str, taxonomy: Taxonomy) -> Path:
    folder = proposal_folder(settings, ds)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "taxonomy.yaml").write_text(dump_taxonomy(taxonomy), "utf-8")
    return folder / "taxonomy.yaml"


def test_an_approved_version_holds_from_its_night_on_and_older_nights_keep_theirs(life: Settings) -> None:
    propose(life, NIGHT, PROPOSED)
    version = approve(life, ANA, ds=NIGHT)
    assert version.approval is not None
    assert (version.approval.by, version.approval.note, version.approval.proposal) == ("Ana", "looks right", NIGHT)
    assert approved_taxonomy(life, "2026-11-19").tag_ids == FIRST.tag_ids
    now = approved_taxonomy(life, NIGHT)
    assert approved_taxonomy(life, NEXT) == now
    assert (now.version, now.status) == (2, "approved")
    assert now.tag_ids == ("maturity", "sell", "move", "help", "gold_bars")
    assert {t.id for t in now.tags if t.status == "deprecated"} == {"redemption", "fees", "service"}
    assert {t.status for t in now.tags} == {"approved", "deprecated"}
    decision = decision_on(life, NIGHT)
    assert decision is not None and (decision.decision, decision.version) == ("approved", 2)


def test_the_command_says_what_was_approved_edits_included(life: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.taxonomies.cli.load_settings", lambda: life)
    file = propose(life, NIGHT, PROPOSED)
    file.write_text(dump_taxonomy(PROPOSED).replace("gold_bars", "gold_coins"), "utf-8")
    said = CliRunner().invoke(app, ["approve", "--ds", NIGHT, "--by", "Ana"], catch_exceptions=False)
    line = "added gold_coins; renamed maturity; split redemption into sell and move; merged fees and service into help"
    assert f"against version 1: {line}" in said.output
    assert "金条" not in said.output, "names and definitions are no matter for a log"


def test_decided_outdated_and_unknown_are_said(life: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no proposed taxonomy for 2026-11-20"):
        approve(life, ANA, ds=NIGHT)
    propose(life, NIGHT, PROPOSED)
    propose(life, NEXT, PROPOSED)
    with pytest.raises(InputError, match="--by"):
        reject(life, Reviewer("  "), NIGHT)
    reject(life, ANA, NIGHT)
    assert len(all_versions(life)) == 1
    for again in (lambda: approve(life, ANA, ds=NIGHT), lambda: reject(life, ANA, NIGHT)):
        with pytest.raises(InputError, match="was rejected by Ana"):
            again()
    mine = tmp_path / "mine.yaml"
    mine.write_text(dump_taxonomy(PROPOSED), "utf-8")
    with pytest.raises(InputError, match=r"--file.*--from"):
        approve(life, ANA, file=mine)
    with pytest.raises(InputError, match="'2026-13-01' is no night"):
        approve(life, ANA, file=mine, from_ds="2026-13-01")
    approve(life, ANA, file=mine, from_ds=NEXT)
    with pytest.raises(InputError, match="outdated: it says version 2, and version 2 was approved"):
        approve(life, ANA, ds=NEXT)
    mine.write_text(dump_taxonomy(replace(PROPOSED, version=3, tags=FIRST.tags[:1])), "utf-8")
    with pytest.raises(InputError, match="cannot begin on 2026-11-20"):
        approve(life, ANA, file=mine, from_ds=NIGHT)
    with pytest.raises(InputError, match="version 9 does not exist; approved so far: 1, 2"):
        version_of(life, 9)


def test_a_proposal_induced_anew_is_open_again(life: Settings) -> None:
    propose(life, NIGHT, PROPOSED)
    reject(life, ANA, NIGHT)
    propose(life, NIGHT, replace(PROPOSED, tags=PROPOSED.tags[:3]))
    assert decision_on(life, NIGHT) is None
    assert approve(life, ANA, ds=NIGHT).taxonomy.tag_ids == ("maturity", "sell", "move")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ((Tag("maturity", "同名", "甲"), Tag("b", "同名", "乙")), "several tags have the name 同名"),
        ((Tag("maturity", "甲", "甲", status="deprecated"),), "no tag in use"),
        ((Tag("b", "乙", "乙", extra={"replaces": ["nobody"]}),), "replaces nobody, which no version had"),
        ((*FIRST.tags, Tag("b", "乙", "乙", extra={"replaces": ["fees"]})), "replaces fees, which is still in use"),
        ((*FIRST.tags, Tag("cannot_tell", "乙", "乙")), "cannot_tell: an id with a meaning of its own"),
    ],
)
def test_a_taxonomy_that_breaks_a_rule_is_refused(life: Settings, tags: tuple[Tag, ...], message: str) -> None:
    propose(life, NIGHT, replace(PROPOSED, tags=tags))
    with pytest.raises(InputError, match=message):
        approve(life, ANA, ds=NIGHT)
    assert len(all_versions(life)) == 1


def test_a_first_version_with_a_reserved_id_labels_nothing(life: Settings) -> None:
    path = Path(life.label.taxonomy)
    path.write_text(path.read_text("utf-8").replace("id: maturity", "id: micro"), "utf-8")
    with pytest.raises(InputError, match="micro: an id with a meaning of its own"):
        all_versions(life)


def test_a_proposal_that_changes_nothing_can_be_approved_and_a_file_cannot(
    life: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.taxonomies.cli.load_settings", lambda: life)
    propose(life, NIGHT, replace(FIRST, version=2, status="proposed"))
    said = CliRunner().invoke(app, ["approve", "--ds", NIGHT, "--by", "Ana"], catch_exceptions=False)
    assert said.exit_code == 0 and "the proposal changes nothing: version 1 stays" in said.output
    decision = decision_on(life, NIGHT)
    assert decision is not None and (decision.decision, decision.version) == ("approved", 1)
    mine = tmp_path / "mine.yaml"
    mine.write_text(dump_taxonomy(replace(FIRST, version=2)), "utf-8")
    with pytest.raises(InputError, match="nothing to approve: this is what version 1 says already"):
        approve(life, ANA, file=mine, from_ds=NIGHT)
    assert len(all_versions(life)) == 1


def test_another_name_of_a_heading_is_a_change(life: Settings) -> None:
    first = under_headings(life)
    topics = (replace(first.topics[0], name="钱款"), first.topics[1])
    propose(life, NIGHT, replace(first, version=2, topics=topics))
    assert approve(life, ANA, ds=NIGHT).taxonomy.version == 2
    assert all_versions(life)[-1].taxonomy.topics == topics


def test_ids_are_never_used_again(life: Settings) -> None:
    propose(life, NIGHT, replace(PROPOSED, tags=FIRST.tags[:3]))
    approve(life, ANA, ds=NIGHT)
    propose(life, NEXT, replace(PROPOSED, version=3, tags=FIRST.tags))
    with pytest.raises(InputError, match="deprecated earlier are never used again: service"):
        approve(life, ANA, ds=NEXT)


def test_a_part_of_a_proposal_can_be_adopted(life: Settings) -> None:
    propose(life, NIGHT, PROPOSED)
    with pytest.raises(InputError, match="neither version has: nonsense"):
        approve(life, ANA, ds=NIGHT, leave_out=["nonsense"])
    now = approve(life, ANA, ds=NIGHT, leave_out=["maturity", "gold_bars", "help"]).taxonomy
    assert now.tag("maturity").name == "到期承接"
    # The merge was left out, so both of its ancestors stay; the split was adopted.
    assert set(now.tag_ids) == {"maturity", "sell", "move", "fees", "service"}


def under_headings(settings: Settings) -> Taxonomy:
    """`fees` and `service` under a heading, in the file of the settings."""
    topics = (Tag("money", "钱", "钱的事。", kind="topic"), Tag("cost", "费用", "费用。", kind="topic", parent="money"))
    tags = (*FIRST.tags[:2], *(replace(tag, parent="cost") for tag in FIRST.tags[2:]))
    first = replace(FIRST, tags=tags, topics=topics)
    Path(settings.label.taxonomy).write_text(dump_taxonomy(first), "utf-8")
    return first


def test_a_tag_whose_heading_is_gone_stands_under_none(life: Settings) -> None:
    first = under_headings(life)
    tags = (*FIRST.tags[:2], replace(FIRST.tags[3], definition="想要人工服务。"))
    propose(life, NIGHT, replace(first, version=2, tags=tags, topics=first.topics[:1]))
    approve(life, ANA, ds=NIGHT, leave_out=["service", "service"])
    now = all_versions(life)[-1].taxonomy
    assert now.tag_ids == ("maturity", "redemption", "service")
    assert now.tag("service") == FIRST.tags[3], "left out of the change, it stays; its heading does not"
    assert now.tag("fees") == replace(FIRST.tags[2], status="deprecated")


def test_a_tag_that_ends_keeps_a_heading_that_is_there(life: Settings) -> None:
    first = under_headings(life)
    propose(life, NIGHT, replace(first, version=2, tags=first.tags[:3]))
    approve(life, ANA, ds=NIGHT)
    assert all_versions(life)[-1].taxonomy.tag("service").parent == "cost"


def test_a_heading_does_not_take_the_id_of_a_tag(life: Settings) -> None:
    parts = tuple(
        Tag(i, i, i, parent="fees", extra={"replaces": ["fees"]}) for i in ("fees_of_cards", "fees_of_accounts")
    )
    heading = Tag("fees", "收费", "收费的事。", kind="topic")
    propose(life, NIGHT, replace(PROPOSED, tags=(*FIRST.tags[:2], *parts), topics=(heading,)))
    with pytest.raises(InputError, match="which are never used again: fees; take new ids"):
        approve(life, ANA, ds=NIGHT)
    assert len(all_versions(life)) == 1


def test_what_nobody_could_read_is_not_stored(life: Settings) -> None:
    # Left out of the change, one tag would stand under the other and that one under it.
    first = replace(FIRST, tags=(replace(FIRST.tags[0], parent="redemption"), *FIRST.tags[1:]))
    Path(life.label.taxonomy).write_text(dump_taxonomy(first), "utf-8")
    turned = (FIRST.tags[0], replace(FIRST.tags[1], parent="maturity"), *FIRST.tags[2:])
    propose(life, NIGHT, replace(first, version=2, tags=turned))
    with pytest.raises(InputError, match=r"version 2 would not be readable .*tag maturity: parents go round.*change"):
        approve(life, ANA, ds=NIGHT, leave_out=["maturity"])
    assert len(all_versions(life)) == 1 and decision_on(life, NIGHT) is None
    assert not list(versions_folder(life).glob("*"))
    assert approve(life, ANA, ds=NIGHT).taxonomy.tags == turned


def test_leaving_out_one_half_of_a_split_keeps_the_other(life: Settings) -> None:
    assert set(without(FIRST, PROPOSED, ["sell"]).tag_ids) == {"maturity", "move", "help", "gold_bars"}
    assert "redemption" in without(FIRST, PROPOSED, ["sell", "move"]).tag_ids


def test_tags_that_stay_because_their_heirs_are_left_out_keep_their_order() -> None:
    old = Taxonomy("t", 1, tuple(Tag(f"tag{i}", f"{i}", f"{i}") for i in range(12)))
    heir = Tag("all", "all", "all", extra={"replaces": list(old.tag_ids)})
    assert without(old, Taxonomy("t", 2, (heir,)), ["all"]).tag_ids == old.tag_ids


def test_of_two_answers_at_once_one_counts_and_the_other_is_told(
    life: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(life, NIGHT, PROPOSED)
    told: list[str] = []

    def other() -> None:
        try:
            reject(life, Reviewer("Ben"), NIGHT)
            told.append("rejected")
        except InputError as error:
            told.append(str(error))

    thread = threading.Thread(target=other)

    def meanwhile(settings: Settings, taxonomy: Taxonomy, approval: Approval) -> Version:
        thread.start()
        thread.join(0.5)
        return add_version(settings, taxonomy, approval)

    monkeypatch.setattr("jobs.taxonomies.review.add_version", meanwhile)
    approve(life, ANA, ds=NIGHT)
    thread.join()
    decision = decision_on(life, NIGHT)
    assert decision is not None and decision.decision == "approved"
    assert len(told) == 1 and "was approved as version 2 by Ana" in told[0]


def test_the_diff_tells_split_and_merge_from_added_and_removed() -> None:
    diff = diff_taxonomies(FIRST, PROPOSED)
    assert [t.id for t in diff.added] == ["gold_bars"]
    assert diff.removed == ()
    assert [(t.id, [c.id for c in children]) for t, children in diff.split] == [("redemption", ["sell", "move"])]
    assert [([p.id for p in parents], t.id) for parents, t in diff.merged] == [(["fees", "service"], "help")]
    page = to_markdown(diff, FIRST, PROPOSED)
    assert "1 tags added, 0 removed, 1 renamed, 0 redefined, 1 split, 1 merged" in page
    assert "收费 (fees), 服务 (service) → 咨询" in page


def test_labels_follow_merges_over_several_versions() -> None:
    def tag(tag_id: str, *ancestors: str, status: str = "deprecated") -> Tag:
        return Tag(tag_id, tag_id, tag_id, status=status, extra={"replaces": list(ancestors)} if ancestors else {})

    tags = (tag("fees"), tag("help", "fees"), tag("care", "help", "service", status="approved"), tag("service"))
    split = (tag("sale"), tag("sell", "sale", status="approved"), tag("move", "sale"))
    now = Taxonomy("t", 3, (*tags, *split))
    assert current_labels(now, ["fees"]) == current_labels(now, ["help", "service", "care"]) == ["care"]
    assert current_labels(now, ["sale", "move"]) == [], "one half of what it was split into has ended"
    assert with_heirs(now, ["fees", "sale"]) == ["fees", "sale", "help", "care"]


def test_what_an_earlier_version_has_asked_about() -> None:
    renamed = replace(FIRST, version=2, tags=(replace(FIRST.tags[0], name="到期"), *FIRST.tags[1:]))
    assert asks_all(FIRST, FIRST) and asks_all(FIRST, renamed)
    ended = next_version(FIRST, replace(FIRST, version=2, tags=FIRST.tags[:2]))
    assert asks_all(FIRST, ended) and not asks_all(ended, FIRST)
    redefined = (replace(FIRST.tags[0], definition="产品到期。"), *FIRST.tags[1:])
    assert not asks_all(FIRST, replace(FIRST, version=2, tags=redefined))
    split = next_version(FIRST, replace(PROPOSED, tags=PROPOSED.tags[:4]))
    assert asks_all(FIRST, split), "a split and a merge ask about the same ground"
    assert not asks_all(FIRST, next_version(FIRST, PROPOSED)), "gold bars were added"


def test_gold_of_an_earlier_version_follows_a_merge_and_drops_what_cannot_be_told(
    life: Settings, tmp_path: Path
) -> None:
    propose(life, NIGHT, PROPOSED)
    now = approve(life, ANA, ds=NIGHT).taxonomy
    assert current_labels(now, ["fees", "service", "redemption", "maturity"]) == ["help", "maturity"]
    row = {"conversation_id": "c1", "ds": NIGHT, "split": "train", "labels": ["fees", "redemption"]}
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps(row | {"evidence": {"fees": [0], "redemption": [1]}}), "utf-8")
    (found,) = read_annotations(gold, now)
    assert (found["labels"], found["evidence"]) == (["help"], {"help": [0]})
    gold.write_text(json.dumps(row | {"labels": ["nobody"]}), "utf-8")
    with pytest.raises(InputError, match="does not have: nobody"):
        read_annotations(gold, now)


def test_deprecated_tags_do_not_change_what_labellers_are_told(life: Settings) -> None:
    propose(life, NIGHT, replace(PROPOSED, tags=FIRST.tags[:3]))
    now = approve(life, ANA, ds=NIGHT).taxonomy
    assert len(now.tags) == 4
    assert now.content_hash == replace(FIRST, tags=FIRST.tags[:3]).content_hash
