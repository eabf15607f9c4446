from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.drift import Drift
from jobs.errors import InputError
from jobs.metrics import wilson
from jobs.report.build import build_report, render_page
from jobs.report.confusion import Confusion, Mistake, collect_confusion, reliability
from jobs.report.data import collect_night
from jobs.report.need import further_right, gold_needed, trials_needed
from jobs.report.night import Night
from jobs.report.stability import Stability, collect_stability
from jobs.report.view import tag_rows, verdict
from jobs.settings import PROJECT, Settings, load_settings
from jobs.storage import Tables
from jobs.taxonomies.store import Approval, add_version
from jobs.taxonomy import load_taxonomy
from tests.night_facts import DS, MISSED_TEXT, TAGS, TEST_TEXT, WRONG_QUOTE, Facts

BEFORE = "2026-11-19"
TAXONOMY = load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml")


@pytest.fixture(scope="module")
def nights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Settings]:
    """Two nights: the first without usable LLM answers and without quarantine, the second with everything."""
    settings = load_settings().model_copy(update={"var": tmp_path_factory.mktemp("report")})
    tables = Tables(spark, settings.warehouse)
    Facts(ds=BEFORE, llm_scores=False, quarantine={}, conversations=12, pending=0).write_to(tables)
    Facts(conversations=120).write_to(tables)
    return tables, settings


@pytest.fixture(scope="module")
def page(nights: tuple[Tables, Settings]) -> str:
    path = build_report(*nights, DS)
    assert path == nights[1].var_dir / "reports" / DS / "quality.html"
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def night(nights: tuple[Tables, Settings]) -> Night:
    return collect_night(nights[0], DS)


@pytest.fixture(scope="module")
def confusion(nights: tuple[Tables, Settings]) -> Confusion:
    return collect_confusion(nights[0], DS)


def _row(page: str, tag: str) -> str:
    rows = [row for row in page.split("<tr id=") if f'<span class="id">{tag} ·' in row.split("</tr>")[0]]
    assert len(rows) == 1
    return rows[0].split("</tr>")[0]


def _text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.mark.spark
def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert not re.search(r"https?:|<script|<link|<img|\bsrc=|\bhref=|\bstyle=|@import|url\(", page)
    css = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(css[0].encode()).digest()).decode()
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert len(css) == len(policy) == 1
    # A policy that allows the page's own style sheet and nothing else; escaped characters are decoded by browsers.
    assert policy[0].replace("&#39;", "'").replace("&#43;", "+") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.spark
def test_chat_text_is_escaped(page: str) -> None:
    assert WRONG_QUOTE not in page
    assert "&lt;script&gt;alert(&#39;quote&#39;)&lt;/script&gt;" in page
    assert "<i>timeout</i>" not in page
    assert "&lt;i&gt;timeout" in page


@pytest.mark.spark
def test_what_asking_costs_is_drawn_and_the_band_in_use_is_marked(page: str, nights: tuple[Tables, Settings]) -> None:
    section = page.split("问大模型多少")[1].split("</section>")[0]
    rows = [_text(row) for row in section.split("<tbody>")[1].split("<tr>")[1:]]
    assert ["今晚所用" in row for row in rows] == [False, True, False]
    assert re.search(r"0.2 0.8 51.7% 95.0% 90.5% 94.0% 90.5% . 已证明", rows[1])
    assert section.count('<circle class="precision"') == 1 and section.count('<circle class="dot-recall"') == 3
    without = build_report(*nights, BEFORE).read_text("utf-8")
    assert "The LLM decides no tag tonight" in without


@pytest.mark.spark
def test_a_hostile_taxonomy_is_escaped(night: Night, confusion: Confusion) -> None:
    hostile = '"><script>alert(1)</script>'
    tags = tuple(replace(tag, name=hostile, definition=hostile, kind=hostile) for tag in TAXONOMY.tags)
    taxonomy = replace(TAXONOMY, name=hostile, tags=tags)
    drift = Drift(hostile, 1, 9, 5, 9, 0.9, 0.1, 1.2, 0.05)
    moved = Stability((BEFORE,), ((DS, replace(drift, tag_id=None)),), (drift,))
    page = render_page(night, confusion, moved, taxonomy, load_settings())
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 2 * len(tags)


@pytest.mark.spark
def test_marks_of_direction_turn_nothing_but_their_own_text(night: Night, confusion: Confusion) -> None:
    turned = "\u202eeman"
    tags = tuple(replace(tag, name=turned) for tag in TAXONOMY.tags)
    named = replace(TAXONOMY, name=turned, tags=tags)
    page = render_page(night, confusion, Stability((), (), ()), named, load_settings())
    # Isolated by <bdi>, by `.name` of the style sheet, or alone in its cell.
    inside = re.findall(rf"<(bdi|td|span class=\"name\" title=\"[^\"]*\")>{turned}</", page)
    assert page.count(turned) == len(inside) > len(tags)


@pytest.mark.spark
def test_what_cannot_be_measured_is_no_figure(night: Night, confusion: Confusion) -> None:
    def score(labels: tuple[int, int, int]) -> dict[str, Any]:
        tp, fp, fn = labels
        return {"tp": tp, "fp": fp, "fn": fn, "support": tp + fn}

    never, absent = TAGS[5], TAGS[6]
    changed = {never: score((0, 0, 4)), absent: score((0, 3, 0))}
    scores = tuple(
        replace(s, **changed[s.tag_id], precision=0.0, recall=0.0) if s.tag_id in changed else s for s in night.scores
    )
    page = render_page(replace(night, scores=scores), confusion, Stability((), (), ()), TAXONOMY, load_settings())
    row = _text(_row(page, never))
    assert "测试金标上没有给过" in row and row.count("0.0% 0.0%") <= 1 and "测试金标里没有" not in row
    row = _text(_row(page, absent))
    assert "测试金标里没有" in row and "测试金标上没有给过" not in row


@pytest.mark.spark
def test_the_trend_shows_the_last_nights(night: Night, confusion: Confusion) -> None:
    days = [date(2025, 11, 1) + timedelta(days=i) for i in range(400)]
    trend = tuple(replace(night.trend[-1], ds=str(day)) for day in days)
    page = render_page(replace(night, trend=trend), confusion, Stability((), (), ()), TAXONOMY, load_settings())
    section = page.split("逐夜走势")[1].split("</section>")[0]
    assert section.count('<circle class="dot-recall"') == 30
    assert f"30 夜，{days[-30]} 至 {days[-1]}" in section and "竖线：95% 区间" in section


@pytest.mark.spark
def test_tables_and_plots_are_told_to_who_cannot_see_them(page: str) -> None:
    assert "<th>" not in page and "<th class" not in page and '<th scope="col"' in page
    assert page.count('class="en"') == page.count('class="en" lang="en"')
    plots = re.findall(r'<svg class="plot"[^>]*>', page)
    assert plots and all(re.search(r'role="img" aria-label="[^"]+"', plot) for plot in plots)
    others = re.findall(r"<svg (?!class=.plot)[^>]*>", page)
    assert others and all('aria-hidden="true"' in svg for svg in others)


@pytest.mark.spark
def test_numbers_on_the_page_are_those_of_the_tables(nights: tuple[Tables, Settings], page: str) -> None:
    tables, _ = nights
    scores = tables.read("scores", DS).where("labeller = 'cascade' and split = 'test'").collect()
    given = {r["tag_id"]: r["count"] for r in tables.read("labels", DS).groupBy("tag_id").count().collect()}
    for score in scores:
        if score["tag_id"] in ("micro", "macro") or score["support"] == 0:
            continue
        row = _text(_row(page, score["tag_id"]))
        for name in ("precision", "recall"):
            low, high = score[f"{name}_low"], score[f"{name}_high"]
            assert f"{score[name] * 100:.1f}% {low * 100:.1f}%–{high * 100:.1f}%" in row
        assert f"{score['f1'] * 100:.1f}%" in row
        assert re.search(rf" {score['support']} ", row)
        assert re.search(rf" {given[score['tag_id']]} ", row)
    text = _text(page)
    micro = next(score for score in scores if score["tag_id"] == "micro")
    assert f"micro precision {micro['precision'] * 100:.1f}%" in text
    assert f"{micro['recall_low'] * 100:.1f}%–{micro['recall_high'] * 100:.1f}% · n={micro['support']}" in text
    assert "进入 in 126 " in text
    assert "已标注 labelled 118 " in text
    assert "隔离 quarantined 6 " in text
    assert "待补 pending 2 " in text
    assert "不是合法的 JSON not_json 3" in text
    tags = tables.read("labels", DS).where("tag_id != 'none'")
    by_student = tags.where("labeller = 'student'").count()
    assert f"出自学生 {by_student} · 大模型 {tags.count() - by_student}" in text


@pytest.mark.spark
def test_the_page_says_what_is_promised_and_how_much_gold_is_missing(page: str) -> None:
    assert "学生可保证 概率 ≥ 0.40 给" in _text(_row(page, "retirement"))
    assert "两者可保证 ≥ 0.80 给，≤ 0.10 不给，其间问大模型" in _text(_row(page, "growth"))
    assert "不能保证 照现在的准头，补金标也不够" in _text(_row(page, "complaint"))
    assert "不能保证 约再要 412 个金标会话" in _text(_row(page, "inheritance"))
    assert f"2 of {len(TAGS)} tags are promised" in _text(page)


@pytest.mark.spark
def test_drift_is_measured_between_nights_and_shown(nights: tuple[Tables, Settings], page: str) -> None:
    tables, _ = nights
    found = collect_stability(tables, DS, 0.95)
    assert found.compared_with == (BEFORE,)
    assert [ds for ds, _ in found.trend] == [DS]
    labelled = tables.read("label_outcomes", DS).where("status = 'labelled'").count()
    first = found.tags[0]
    assert (first.n_before, first.n_now) == (12, labelled)
    assert first.now == tables.read("labels", DS).where(f"tag_id = '{first.tag_id}'").count()
    section = _text(page.split("Drift between nights")[1])
    assert f"PSI 结论 {TAXONOMY.tag(first.tag_id or '').name}" in section
    assert f"{first.psi:.3f} {first.low:.3f}–{first.high:.3f}" in section
    assert f"与 {BEFORE} 一夜相比" in section
    assert collect_stability(tables, BEFORE, 0.95).trend == ()


@pytest.mark.spark
def test_problems_come_first_and_the_verdict_is_said_in_words(page: str) -> None:
    order = re.findall(r'<span class="id">([a-z_]+) ·', page.split("</tbody>")[0])
    assert sorted(order) == sorted(TAGS)
    assert (order[0], order[-2:]) == ("complaint", ["inheritance", "retirement"])
    assert "23 个标签中 1 个已证明达到目标，21 个金标不够、还不能下结论，1 个低于目标。" in page
    assert "1 of 23 tags proven, 21 without enough gold, 1 below target." in page
    assert "没有测试金标" in _row(page, "inheritance")


@pytest.mark.spark
def test_who_may_decide_and_why(page: str) -> None:
    assert "大模型可判 大模型错得少 错误：学生 5，大模型 3" in _text(_row(page, TAGS[0]))
    assert "只由学生判 大模型没有更好 错误：学生 5，大模型 9" in _text(_row(page, TAGS[1]))


@pytest.mark.spark
def test_only_calibration_text_is_shown(nights: tuple[Tables, Settings], confusion: Confusion, page: str) -> None:
    assert TEST_TEXT not in page
    assert TEST_TEXT[:10] not in page
    shown = set(re.findall(r"会话 <bdi>(WX\d+)", page))
    gold = {r["conversation_id"]: r["split"] for r in nights[0].read("gold", DS).collect()}
    assert shown
    assert {gold[conversation] for conversation in shown} == {"calibration"}
    # Of what Spark hands over, nothing holds test text either.
    assert TEST_TEXT not in repr(confusion)


@pytest.mark.spark
def test_mistakes_carry_their_evidence(nights: tuple[Tables, Settings], confusion: Confusion) -> None:
    found = confusion
    assert found.conversations == 40
    wrong = [m for m in found.mistakes if not m.missed]
    missed = [m for m in found.mistakes if m.missed]
    # Two conversations wait for the LLM and have no labels: there the customer's words stand in.
    assert {m.quotes for m in wrong if m.labeller} == {(WRONG_QUOTE,)}
    assert all(m.quotes[0].startswith(MISSED_TEXT) for m in missed)
    gold = {r["conversation_id"]: set(r["labels"]) for r in nights[0].read("gold", DS).collect()}
    assert all(m.tag_id in gold[m.conversation_id] for m in missed)
    assert all(m.tag_id not in gold[m.conversation_id] for m in wrong)
    assert max(_shown_per_tag(found.mistakes).values()) <= 2
    fewer = collect_confusion(nights[0], DS, per_tag=1)
    assert max(_shown_per_tag(fewer.mistakes).values()) == 1
    assert fewer.counts == found.counts
    assert len(fewer.mistakes) < sum(sum(count) for count in found.counts.values())


def _shown_per_tag(mistakes: tuple[Mistake, ...]) -> dict[tuple[str, bool], int]:
    counts: dict[tuple[str, bool], int] = {}
    for mistake in mistakes:
        counts[mistake.tag_id, mistake.missed] = counts.get((mistake.tag_id, mistake.missed), 0) + 1
    return counts


@pytest.mark.spark
def test_a_night_without_llm_quarantine_and_history(nights: tuple[Tables, Settings], page: str) -> None:
    bare = build_report(*nights, BEFORE).read_text("utf-8")
    assert "校准金标上没有大模型的可用答案（没有问它，或答案不能用）" in bare
    assert "没有大模型的可用答案" in _row(bare, "growth")
    assert "本夜没有隔离任何记录" in bare
    assert "只有一夜的分数" in bare
    assert 'class="dot-recall"' not in bare
    # The second night has them all.
    assert "校准金标上没有大模型的可用答案" not in page
    assert "本夜没有隔离任何记录" not in page
    assert page.count("<polyline") == 6


@pytest.mark.spark
def test_the_same_tables_give_the_same_page(nights: tuple[Tables, Settings], page: str) -> None:
    assert build_report(*nights, DS).read_text("utf-8") == page


@pytest.mark.spark
def test_a_night_that_was_not_scored_says_so(tables: Tables, settings: Settings) -> None:
    with pytest.raises(InputError, match="no complete night"):
        build_report(tables, settings, DS)
    assert not Path(settings.var_dir / "reports").exists()


@pytest.mark.spark
def test_the_floor_stops_the_night(night: Night, confusion: Confusion) -> None:
    settings = load_settings()
    gate = settings.gate
    assert verdict(night, tag_rows(night, TAXONOMY, gate), gate).passed is True
    strict = gate.model_copy(update={"floor_recall": 0.99})
    assert verdict(night, tag_rows(night, TAXONOMY, strict), strict).passed is False
    page = render_page(night, confusion, Stability((), (), ()), TAXONOMY, settings.model_copy(update={"gate": strict}))
    assert "不通过" in page


@pytest.mark.parametrize(("right", "trials"), [(0, 0), (7, 7), (6, 7), (40, 52), (299, 300)])
def test_further_right_is_the_least_that_wilson_accepts(right: int, trials: int) -> None:
    more = further_right(right, trials, 0.9, 0.95)

    def low(extra: int) -> float:
        return wilson(right + extra, trials + extra).low

    assert low(more) >= 0.9
    assert more == 0 or low(more - 1) < 0.9


def test_trials_needed_agrees_with_wilson() -> None:
    assert trials_needed(1.0, 0.9, 0.95) == 35
    assert trials_needed(0.9, 0.9, 0.95) is None
    needed = trials_needed(0.95, 0.9, 0.95)
    assert needed is not None
    assert wilson(round(0.95 * needed), needed).low == pytest.approx(0.9, abs=3e-3)


def test_a_tag_without_gold_needs_the_best_case() -> None:
    need = gold_needed(None, 0.9, 0.9, 0.95)
    assert need.at_least == 35


def test_reliability_counts_every_answer_once() -> None:
    bins = reliability([(0.5, True), (0.59, False), (0.95, True), (1.0, True), (0.2, False)])
    assert [(b.low, b.high, b.tags, b.right) for b in bins] == [(0.0, 0.5, 1, 0), (0.5, 0.6, 2, 1), (0.9, 1.0, 2, 2)]
    assert bins[1].confidence == pytest.approx(0.545)


@pytest.mark.spark
def test_the_notebook_runs(nights: tuple[Tables, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.setenv("DONGCHA_VAR", str(nights[1].var))
    monkeypatch.chdir(PROJECT / "notebooks")
    renamed = tuple(replace(tag, name=f"{tag.name}2") for tag in TAXONOMY.tags)
    version = replace(TAXONOMY, version=2, tags=renamed)
    add_version(nights[1], version, Approval("reviewer", "2026-11-20T00:00:00+00:00", DS))
    notebook = json.loads((PROJECT / "notebooks" / "tag_quality.ipynb").read_text("utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert names["DS"] == DS
    assert len(names["tags"]) == len(TAGS)
    assert set(names["tags"]["name"]) == {tag.name for tag in renamed}
    assert set(names["answers"]["tag_id"]) <= set(TAGS)
    assert len(names["micro"]) == 2
    assert 0 < names["answers"]["right"].mean() < 1
