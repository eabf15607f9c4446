from __future__ import annotations

from dataclasses import replace

from jobs.taxonomy import Tag, Taxonomy
from jobs.taxonomy_diff import diff_taxonomies, in_ids, plain, to_markdown

OLD = Taxonomy(
    "wealth",
    1,
    (
        Tag("maturity", "到期承接", "客户手里的产品或存款到期，需要决定怎么接续。"),
        Tag("redemption", "赎回转出", "客户想赎回、卖出或把钱转走。"),
        Tag("complaint", "投诉不满", "客户对服务表达不满。"),
    ),
)


def test_one_lineage_is_compared_by_id() -> None:
    new = Taxonomy(
        "wealth",
        2,
        (
            Tag("maturity", "到期", OLD.tags[0].definition),
            Tag("redemption", "赎回转出", "客户要把钱拿走。"),
            Tag("referral", "转介绍", "客户介绍朋友来开户。"),
        ),
    )
    diff = diff_taxonomies(OLD, new)
    assert [t.id for t in diff.added] == ["referral"]
    assert [t.id for t in diff.removed] == ["complaint"]
    assert [(a.name, b.name) for a, b in diff.renamed] == [("到期承接", "到期")]
    assert [a.id for a, _ in diff.redefined] == ["redemption"]
    page = to_markdown(diff, OLD, new)
    assert "1 tags added, 1 removed, 1 renamed, 1 redefined" in page
    assert "到期承接 → 到期" in page
    assert in_ids(diff) == "added referral; removed complaint; renamed maturity; redefined redemption"
    assert in_ids(diff_taxonomies(OLD, OLD)) == ""


def test_induced_tags_are_set_beside_the_nearest_approved_one() -> None:
    new = Taxonomy(
        "wealth",
        2,
        (Tag("g1", "存款到期", "产品到期了怎么接续"), Tag("g2", "weather", "umbrella sunshine")),
        status="proposed",
    )
    diff = diff_taxonomies(OLD, new)
    near = {n.proposed.id: n for n in diff.neighbours}
    assert near["g1"].approved.id == "maturity"
    assert not near["g1"].looks_new
    assert near["g2"].looks_new
    assert "complaint" in {t.id for t in diff.uncovered}


def test_chat_text_cannot_become_markup() -> None:
    new = Taxonomy("wealth", 2, (Tag("g1", "<script>alert(1)</script>|x", "a\n# b"),), status="proposed")
    page = to_markdown(diff_taxonomies(OLD, new), OLD, new)
    assert "<script>" not in page
    assert "\n# b" not in page


def test_a_redefinition_says_what_changed() -> None:
    first = replace(OLD.tags[0], include=("存单到期",), exclude=("提前支取",))
    old = replace(OLD, tags=(first, *OLD.tags[1:]))
    changed = replace(first, include=("理财到期",), exclude=("提前支取", "还没到期就想卖"))
    page = _page(old, replace(old, version=2, tags=(changed, *OLD.tags[1:])))
    assert "- 到期承接: include, gone: 存单到期; include, new: 理财到期; exclude, new: 还没到期就想卖\n" in page


def test_borders_and_other_fields_are_part_of_the_diff() -> None:
    old = replace(OLD, borders=("到期的不算赎回。", "旧的边界。"))
    tags = (replace(OLD.tags[0], parameters=("amount",)), *OLD.tags[1:])
    new = replace(OLD, version=2, tags=tags, borders=("到期的不算赎回。", "新的 *边界*。"))
    page = _page(old, new)
    assert "- gone: 旧的边界。\n- new: 新的 \\*边界\\*。" in page and "到期的不算赎回" not in page
    assert "examples or heading changed\n\n- 到期承接\n" in page
    assert in_ids(diff_taxonomies(old, new)) == "other fields of maturity; borders 1 gone, 1 new"


def test_a_name_of_a_chat_draws_nothing() -> None:
    assert plain("- [ ] ~~x~~ &lt;b&gt;") == "\\- \\[ \\] \\~\\~x\\~\\~ \\&lt;b\\&gt;"
    assert plain("1. a") == "1\\. a" and plain("2026) b") == "2026\\) b" and plain("a 1. b-c") == "a 1. b-c"
    assert plain("\u202eabc\u2066d\u200f") == "abcd"


def _page(old: Taxonomy, new: Taxonomy) -> str:
    return to_markdown(diff_taxonomies(old, new), old, new)
