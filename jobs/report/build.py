"""Writes the tag quality report: one HTML file that needs nothing but itself.

Texts of conversations are untrusted: everything is escaped, and the content security policy lets the page load and run
nothing at all; only its own style sheet, named by its hash, applies.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.drift import SHIFTED, STABLE
from jobs.metrics import wilson
from jobs.report import words
from jobs.report.confusion import PER_TAG, Bin, Confusion, collect_confusion
from jobs.report.data import collect_night
from jobs.report.night import MACRO, MICRO, Night, Score
from jobs.report.stability import NIGHTS, Stability, collect_stability
from jobs.report.view import TagRow, Verdict, tag_rows, verdict
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.store import approved_taxonomy
from jobs.taxonomy import Taxonomy

TEMPLATES = Path(__file__).resolve().parent / "templates"
# Fewer tags than this say nothing about calibration.
LEAST_TAGS_FOR_RELIABILITY = 20
DRIFT_SHOWN = 8
# More nights than these run into one another on the plot.
TREND_SHOWN = 30


def build_report(tables: Tables, settings: Settings, ds: str) -> Path:
    """Write `reports/<ds>/quality.html` under `var` and return its path. The same tables give the same bytes.

    Raises:
        InputError: a table lacks this night, or the taxonomy cannot be read.
    """
    taxonomy = approved_taxonomy(settings, ds)
    stability = collect_stability(tables, ds, settings.gate.confidence)
    page = render_page(collect_night(tables, ds), collect_confusion(tables, ds), stability, taxonomy, settings)
    path = report_path(settings, ds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def report_path(settings: Settings, ds: str) -> Path:
    """Where the report of night `ds` lies."""
    return settings.var_dir / "reports" / ds / "quality.html"


def render_page(
    night: Night, confusion: Confusion, stability: Stability, taxonomy: Taxonomy, settings: Settings
) -> str:
    """The page as HTML text."""
    environment = _environment()
    rows = tag_rows(night, taxonomy, settings.gate)
    standing = verdict(night, rows, settings.gate)
    names = {row.id: row.name for row in rows}
    return environment.get_template("quality.html.j2").render(
        policy=_policy(environment.get_template("quality.css").render()),
        night=night,
        taxonomy=taxonomy,
        scenario=settings.scenario,
        profile=settings.llm.profile,
        gate=settings.gate,
        rows=rows,
        verdict=standing,
        tag_counts=_tag_counts(standing),
        promised=sum(row.promise is not None and row.promise.promised != "none" for row in rows),
        trend=night.trend[-TREND_SHOWN:],
        overall=_overall(night),
        llm_measured=any(trust.compared for trust in night.trust.values()),
        flow_steps=_flow_steps(night),
        confusion=confusion,
        per_tag=PER_TAG,
        stability=stability,
        drift_top=max([SHIFTED * 1.2, *(max(found.high, found.chance) for _, found in stability.trend)]),
        drift_borders=(STABLE, SHIFTED),
        drift_nights=NIGHTS,
        drift_shown=DRIFT_SHOWN,
        drift_states=words.DRIFT,
        mistakes=_by_tag(confusion, rows),
        bins=_bins(confusion.reliability, settings.gate.confidence),
        least_bins=LEAST_TAGS_FOR_RELIABILITY,
        names=names,
        interval_method=words.INTERVALS.format(level=_level(settings.gate.confidence)),
        verdicts=words.VERDICTS,
        kinds=words.KINDS,
        splits=words.SPLITS,
        labellers=words.LABELLERS,
        quarantine=words.QUARANTINE,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": _percent, "level": _level, "share": _share, "bounds": _bounds, "cut": _cut}
    return environment


def _policy(css: str) -> str:
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _percent(value: float) -> str:
    return f"{value * 100:.1f}%"


def _level(value: float) -> str:
    return f"{value * 100:g}%"


def _share(part: int, whole: int) -> str:
    return _percent(part / whole) if whole else "—"


def _bounds(score: Score, figure: str) -> str:
    low, high = getattr(score, f"{figure}_low"), getattr(score, f"{figure}_high")
    return "没有区间" if low is None or high is None else f"{_percent(low)}–{_percent(high)}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _part(kind: str, zh: str, count: int) -> dict[str, Any]:
    return {"kind": kind, "zh": zh, "count": count}


def _tag_counts(standing: Verdict) -> list[dict[str, Any]]:
    order = ("met", "unproven", "no_gold", "below")
    return [_part(name, words.VERDICTS[name][1], standing.counts[name]) for name in order]


def _flow_steps(night: Night) -> list[dict[str, Any]]:
    flow = night.flow
    late = f"，含往日 {flow.carried}" if flow.carried else ""
    return [
        {
            "zh": f"进入 {flow.read}",
            "en": "in",
            "parts": [_part("kept", "留用", flow.conversations), _part("lost", "隔离", flow.quarantined)],
        },
        {
            "zh": f"待标 {flow.labelled + flow.pending + flow.dead}{late}",
            "en": "to label",
            "parts": [
                _part("kept", "已标注", flow.labelled),
                _part("wait", "待补", flow.pending),
                _part("dead", "放弃", flow.dead),
            ],
        },
        {
            "zh": f"谁标注的 {flow.labelled}",
            "en": "labelled by",
            "parts": [
                _part("student", "只用学生", flow.student_labelled),
                _part("llm", "大模型参与", flow.llm_labelled),
            ],
        },
        {
            "zh": "结果",
            "en": "outcome",
            "parts": [
                _part("kept", "有标签", flow.tagged),
                _part("quiet", "没有标签", flow.no_tag),
                _part("wait", "无法判断", flow.undecided),
            ],
        },
    ]


def _overall(night: Night) -> list[Score]:
    found = (
        night.score(labeller, split, kind)
        for labeller, split in (
            ("cascade", "test"),
            ("student", "test"),
            ("llm", "test"),
            ("cascade", "calibration"),
            ("student", "calibration"),
            ("llm", "calibration"),
        )
        for kind in (MICRO, MACRO)
    )
    return [score for score in found if score is not None]


def _by_tag(confusion: Confusion, rows: Sequence[TagRow]) -> list[dict[str, Any]]:
    """Mistakes grouped by tag, the tag with most errors first."""
    names = {row.id: row.name for row in rows}
    groups = []
    for tag_id, found in groupby(confusion.mistakes, key=lambda mistake: mistake.tag_id):
        wrong, missed = confusion.counts[tag_id]
        groups.append(
            {"id": tag_id, "name": names.get(tag_id, tag_id), "wrong": wrong, "missed": missed, "shown": list(found)}
        )
    return sorted(groups, key=lambda group: (-group["wrong"] - group["missed"], group["id"]))


def _bins(bins: Sequence[Bin], confidence: float) -> list[dict[str, Any]]:
    if sum(found.tags for found in bins) < LEAST_TAGS_FOR_RELIABILITY:
        return []
    drawn = []
    for found in bins:
        interval = wilson(found.right, found.tags, confidence)
        drawn.append(
            {
                "edge_low": found.low,
                "edge_high": found.high,
                "tags": found.tags,
                "confidence": found.confidence,
                "share": found.right / found.tags,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return drawn
