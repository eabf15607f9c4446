"""What a night did, in a few lines: the end of the demo, and `python -m jobs summary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text
from sqlalchemy import MetaData, create_engine, func, inspect, make_url, select
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import DongchaError
from jobs.profiling import PROFILE_TABLES
from jobs.publishing.database import shown
from jobs.report.build import report_path
from jobs.report.data import collect_night
from jobs.report.night import MACRO, MICRO, Flow, Score
from jobs.settings import Settings
from jobs.storage import Tables


@dataclass(frozen=True, slots=True)
class Summary:
    """One night. `published` holds rows in the CRM's database by table, empty where nothing was published yet;
    `report` is None where none was written. `crm_url` never shows a password.
    """

    ds: str
    flow: Flow
    tags_by: Mapping[str, int]
    micro: Score | None
    macro: Score | None
    proven: int
    tags: int
    confidence: float
    published: Mapping[str, int]
    report: Path | None
    crm_url: str
    mlflow_uri: str


def summary(tables: Tables, settings: Settings, ds: str) -> Summary:
    """Sum up night `ds`.

    Raises:
        InputError: a stage of the night has not run.
        DongchaError: the CRM's database cannot be reached.
    """
    night = collect_night(tables, ds)
    scores = night.tag_scores("cascade", "test")
    page = report_path(settings, ds)
    return Summary(
        ds=ds,
        flow=night.flow,
        tags_by=night.tags_by,
        micro=night.score("cascade", "test", MICRO),
        macro=night.score("cascade", "test", MACRO),
        proven=sum(score.verdict == "met" for score in scores.values()),
        tags=len(scores),
        confidence=settings.gate.confidence,
        published=_published(settings),
        report=page if page.is_file() else None,
        crm_url=shown(make_url(settings.crm_url)),
        mlflow_uri=settings.mlflow_uri,
    )


def render(found: Summary) -> Group:
    """Lines for a terminal; nothing in them is read as markup."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    # Paths are to be copied: they wrap, they are never cut.
    grid.add_column(overflow="fold")
    for name, text in _lines(found):
        grid.add_row(Text(name), Text(text))
    return Group(Text(f"Night {found.ds}", style="bold green"), grid)


def _published(settings: Settings) -> dict[str, int]:
    url = make_url(settings.crm_url)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        return {}  # connecting would create an empty database
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            there = set(inspect(connection).get_table_names())
            counts = {}
            for name in PROFILE_TABLES:
                if name in there:
                    table = SqlTable(name, MetaData(), autoload_with=connection)
                    counts[name] = int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            return counts
    except SQLAlchemyError as error:
        raise DongchaError(
            f"the CRM's database {shown(url)} cannot be read ({type(error).__name__}): is it up?"
        ) from error
    finally:
        engine.dispose()


def _lines(found: Summary) -> Sequence[tuple[str, str]]:
    flow, by = found.flow, found.tags_by
    waiting = f", {flow.pending} pending" if flow.pending else ""
    given_up = f", {flow.dead} given up" if flow.dead else ""
    unsure = f", {flow.undecided} undecided" if flow.undecided else ""
    carried = f" ({flow.carried} of earlier nights)" if flow.carried else ""
    return (
        ("conversations in", f"{flow.read}: {flow.conversations} kept, {flow.quarantined} quarantined"),
        ("quarantined", _by_reason(flow.quarantine)),
        ("labelled", f"{flow.labelled}{waiting}{given_up}{carried}; no tag applies to {flow.no_tag}{unsure}"),
        ("labelled by", f"student alone {flow.student_labelled}, with the LLM {flow.llm_labelled}"),
        ("dead letters", _by_reason(flow.dead_letters)),
        ("tags given", f"{sum(by.values())}: student {by['student']}, LLM {by['llm']}"),
        ("precision", _figure(found, "precision")),
        ("recall", _figure(found, "recall")),
        ("tags proven", f"{found.proven} of {found.tags} (lower bounds reach the target)"),
        ("CRM rows", ", ".join(f"{t} {n}" for t, n in found.published.items()) or "nothing published yet"),
        ("quality report", str(found.report) if found.report else "none yet: python -m jobs report"),
        ("CRM database", found.crm_url),
        ("MLflow store", found.mlflow_uri),
    )


def _by_reason(counts: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    return f"{sum(counts.values())}" + (f": {reasons}" if reasons else "")


def _figure(found: Summary, name: str) -> str:
    parts = []
    for kind, score in (("micro", found.micro), ("macro", found.macro)):
        if score is None:
            parts.append(f"{kind} not measured")
            continue
        low, high = getattr(score, f"{name}_low"), getattr(score, f"{name}_high")
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
        parts.append(f"{kind} {getattr(score, name):.3f}{interval}")
    support = f", {found.micro.support} gold tags" if found.micro else ""
    return f"{', '.join(parts)} ({found.confidence:.0%} intervals, held-back gold{support})"
