"""An induced taxonomy beside the approved one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.settings import Settings
from jobs.taxonomies.align import Alignment, align, in_words, proposal_of
from jobs.taxonomies.proposals import ALIGNMENT, proposal_folder
from jobs.taxonomies.review import Reviewer, approve
from jobs.taxonomies.store import approved_taxonomy
from jobs.taxonomy import Tag, Taxonomy, dump_taxonomy
from jobs.taxonomy_diff import diff_taxonomies, plain

NIGHT = "2026-11-20"
APPROVED = Taxonomy(
    "small",
    1,
    (
        Tag("maturity", "到期承接", "产品到期要接续。"),
        Tag("fees", "收费", "问收费。"),
        Tag("service", "服务", "问服务。"),
        Tag("gone", "旧", "旧的。", status="deprecated"),
    ),
)
INDUCED = Taxonomy(
    "small",
    2,
    tuple(
        Tag(i, i.upper(), f"about {i}", parent="top", status="proposed")
        for i in ("due", "soon", "cost_help", "bars", "maturity", "early")
    ),
    topics=(Tag("top", "Top", "all", kind="topic"),),
)
LABELS = {str(i): ["maturity"] for i in range(8)} | {str(i): ["fees", "service"] for i in range(8, 12)}
LABELS |= {str(i): [] for i in range(12, 16)}
MEMBERS = {
    "due": ["0", "1", "2", "3"],
    "soon": ["4", "5", "6", "12"],
    "cost_help": ["8", "9", "10", "11"],
    "bars": ["13", "14", "15", "7"],
    "maturity": ["13"],
    "early": ["16", "17"],
    "none": ["1", "2"],
}


@pytest.fixture
def found() -> Alignment:
    return align(INDUCED, MEMBERS, LABELS, sampled=18)


def test_what_approved_tags_do_not_explain_is_new(found: Alignment) -> None:
    assert [(group.tag_id, group.conversations, group.unexplained) for group in found.added] == [
        ("bars", 4, 3),
        ("maturity", 1, 1),
    ]
    assert [(group.tag_id, group.conversations, group.labelled) for group in found.unjudged] == [("early", 2, 0)]
    assert {group.tag_id: group.covered_by for group in found.covered} == {
        "due": {"maturity": 1.0},
        "soon": {"maturity": 1.0},
        "cost_help": {"fees": 1.0, "service": 1.0},
    }
    assert (found.untagged, found.now) == (4, {"fees": 4, "maturity": 8, "service": 4})
    assert found.look_split == {"maturity": ["due", "soon"]}
    assert found.look_merged == {"cost_help": ["fees", "service"]}
    assert Alignment.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_a_proposal_keeps_every_approved_tag_with_its_id(found: Alignment) -> None:
    proposal = proposal_of(APPROVED, INDUCED, found)
    assert proposal.tag_ids == ("maturity", "fees", "service", "bars")  # an id that is taken is not given again
    assert proposal.tags[:4] == APPROVED.tags
    assert (proposal.version, proposal.status, proposal.tags[4].status) == (2, "proposed", "proposed")
    diff = diff_taxonomies(APPROVED, proposal)
    assert ([tag.id for tag in diff.added], diff.removed, diff.redefined, diff.uncovered) == (["bars"], (), (), ())


def test_in_words_it_counts_conversations_and_hints_at_splits_and_merges(found: Alignment) -> None:
    text = "\n".join(in_words(found, APPROVED, plain))
    assert "Of 16 labelled conversations of the sample, 4 (25%) have no tag." in text
    assert "| BARS: 4 of 18 conversations | 4 | 3 |" in text
    assert "none of whose conversations is labelled" in text and "| EARLY | 2 |" in text
    assert "| COST\\_HELP | 4 | 收费 100%, 服务 100% |" in text
    assert "| group | conversations | approved tags on half or more of those with a tag |" in text
    assert "到期承接 may be several: DUE, SOON" in text and "收费, 服务 may be one: COST\\_HELP" in text


def test_without_labels_nothing_is_taken_for_explained() -> None:
    found = align(INDUCED, MEMBERS, dict(list(LABELS.items())[:7]), sampled=16)
    assert not found.known and len(found.added) == 6 and not found.covered
    assert "Only 7 of 16 sampled conversations are labelled" in in_words(found, APPROVED, plain)[0]


def test_fifty_labelled_conversations_are_enough_of_any_sample() -> None:
    labels = {str(i): ["fees"] for i in range(50)}
    found = align(INDUCED, MEMBERS, labels, sampled=1000)
    assert found.known and not found.added and len(found.covered) == 6
    del labels["49"]
    assert not align(INDUCED, MEMBERS, labels, sampled=1000).known


def proposed(settings: Settings, tmp_path: Path, approved: Taxonomy, induced: Taxonomy, found: Alignment) -> Settings:
    (tmp_path / "small.yaml").write_text(dump_taxonomy(approved), "utf-8")
    label = settings.label.model_copy(update={"taxonomy": str(tmp_path / "small.yaml")})
    changed = settings.model_copy(update={"label": label})
    folder = proposal_folder(changed, NIGHT)
    folder.mkdir(parents=True)
    (folder / "taxonomy.yaml").write_text(dump_taxonomy(proposal_of(approved, induced, found)), "utf-8")
    return changed


@pytest.fixture
def asked(settings: Settings, tmp_path: Path, found: Alignment) -> Settings:
    return proposed(settings, tmp_path, APPROVED, INDUCED, found)


def called(name: str, *tag_ids: str) -> Taxonomy:
    return replace(INDUCED, tags=tuple(replace(t, name=name) if t.id in tag_ids else t for t in INDUCED.tags))


def test_a_group_named_like_an_approved_tag_is_listed_and_not_proposed(settings: Settings, tmp_path: Path) -> None:
    induced = called("收费 ", "bars")
    found = align(induced, MEMBERS, LABELS, sampled=18)
    changed = proposed(settings, tmp_path, APPROVED, induced, found)
    assert approve(changed, Reviewer("Ana"), ds=NIGHT).taxonomy.version == 1, "nothing is left to add"
    text = "\n".join(in_words(found, APPROVED, plain))
    _, listed = text.split("## Induced groups whose id or name a tag has already (not added)")
    assert (
        "| 收费: 4 of 18 conversations | 4 | 3 |" in listed and "| MATURITY: 1 of 18 conversations | 1 | 1 |" in listed
    )
    assert "would get the added tags" not in text


def test_of_several_new_groups_with_one_name_the_first_is_proposed(settings: Settings, tmp_path: Path) -> None:
    induced = called("金条", "bars", "early")
    found = align(induced, MEMBERS, {}, sampled=18)
    changed = proposed(settings, tmp_path, APPROVED, induced, found)
    approve(changed, Reviewer("Ana"), ds=NIGHT)
    new = ("due", "soon", "cost_help", "bars")
    assert approved_taxonomy(changed, NIGHT).tag_ids == ("maturity", "fees", "service", *new)
    text = "\n".join(in_words(found, APPROVED, plain))
    assert "(not added)" in text and "| 金条: 2 of 18 conversations | 0 | 0 |" in text


def test_a_tag_in_use_under_one_that_ended_can_be_proposed(
    settings: Settings, tmp_path: Path, found: Alignment
) -> None:
    under = replace(APPROVED.tags[2], parent="gone")
    approved = replace(APPROVED, tags=(*APPROVED.tags[:2], under, APPROVED.tags[3]))
    changed = proposed(settings, tmp_path, approved, INDUCED, found)
    approve(changed, Reviewer("Ana"), ds=NIGHT)
    assert approved_taxonomy(changed, NIGHT).tag("service") == under


def test_the_diff_command_says_it_too(asked: Settings, found: Alignment, monkeypatch: pytest.MonkeyPatch) -> None:
    (proposal_folder(asked, NIGHT) / ALIGNMENT).write_text(json.dumps(found.as_dict()), "utf-8")
    monkeypatch.setattr("jobs.taxonomies.cli.load_settings", lambda: asked)
    shown = CliRunner().invoke(app, ["taxonomy", "diff", "--ds", NIGHT])
    assert shown.exit_code == 0, shown.output
    assert "1 tags added, 0 removed" in shown.stdout and "到期承接 may be several: DUE, SOON" in shown.stdout
    approve(asked, Reviewer("Ana"), ds=NIGHT)
    assert approved_taxonomy(asked, NIGHT).tag_ids == ("maturity", "fees", "service", "bars")


def test_what_another_release_counted_does_not_stop_the_diff(
    asked: Settings, found: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = found.as_dict()
    del older["unjudged"], older["added"][0]["labelled"]
    (proposal_folder(asked, NIGHT) / ALIGNMENT).write_text(json.dumps(older), "utf-8")
    monkeypatch.setattr("jobs.taxonomies.cli.load_settings", lambda: asked)
    shown = CliRunner().invoke(app, ["taxonomy", "diff", "--ds", NIGHT])
    assert shown.exit_code == 0 and "1 tags added, 0 removed" in shown.stdout
    assert "may be several" not in shown.stdout
