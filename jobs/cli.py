"""The command line: every stage of a night, and the tools around them. No logic lives here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jobs.bench.cli import app as bench_app
from jobs.errors import DongchaError
from jobs.evaluation.commands import (
    compare,
    evaluate,
    evaluate_induction,
    flips,
    learn_encoder,
    learning_curve,
    recovery,
    split,
)
from jobs.labelling.commands import app as dead_letters_app
from jobs.llm.batch_cli import app as batch_app
from jobs.llm.cli import app as serve_app
from jobs.opening import open_tables as _tables
from jobs.settings import load_settings
from jobs.storage import check_ds
from jobs.taxonomies.cli import app as taxonomy_app
from jobs.taxonomies.wishes import unexplained

app = typer.Typer(
    name="jobs",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Dongcha: every night, conversations become tags and tags become customer profiles.\n\n"
    "The stages, in order: ingest, gold, train, label, score, report, gate, profile, publish; "
    "and for the taxonomy: sample, induce, diff. Each is a pure function of its input tables and --ds.",
)
app.add_typer(serve_app, name="serve", rich_help_panel="Around the night")
app.add_typer(batch_app, name="batch", rich_help_panel="Around the night")
app.add_typer(taxonomy_app, name="taxonomy", rich_help_panel="The taxonomy")
app.add_typer(dead_letters_app, name="dead-letters", rich_help_panel="The night")
app.add_typer(bench_app, name="bench", rich_help_panel="Around the night")
console = Console(stderr=True)

Ds = Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD.", metavar="DATE")]
NIGHT, TAXONOMY, OWN, AROUND = "The night", "The taxonomy", "Your own chats", "Around the night"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command(rich_help_panel=NIGHT)
def ingest(
    ds: Ds,
    window: Annotated[bool, typer.Option(help="Also the nights before it, as far as sampling looks back.")] = False,
) -> None:
    """Read a night's chats, redact them, put what cannot be used into quarantine, resolve customers."""
    from jobs.ingest import ingest as run
    from jobs.ingestion.source import nights_of_window

    with _tables("ingest", ds) as (tables, settings):
        nights = nights_of_window(settings, ds) if window else [ds]
        for night in nights:
            if night != ds and tables.exists("conversations", night):
                continue
            result = run(tables, settings, night)
            _say(f"ingest {night}: {result.read} read, {result.conversations} kept, {result.quarantined} quarantined")
            if result.left_alone:
                _say(f"ingest {night}: not read, no names of JSON Lines: {', '.join(result.left_alone)}")
            if result.ended_links:
                _say(f"ingest {night}: {result.ended_links} links of ids are not in the customer directory any more")


@app.command(rich_help_panel=NIGHT)
def check(names: Annotated[list[str], typer.Argument(metavar="TABLE...")], ds: Ds) -> None:
    """Hold tables against their contracts; a broken rule stops the night and says which rows."""
    from jobs.quality import check_table

    with _tables("check", ds) as (tables, settings):
        for name in names:
            rules = check_table(tables, name, ds, settings.var_dir / "reports" / ds / "checks")
            _say(f"check {name} {ds}: {rules} rules hold")


@app.command(rich_help_panel=NIGHT)
def gold(ds: Ds) -> None:
    """Bring in what people tagged."""
    from jobs.gold import gold as run

    with _tables("gold", ds) as (tables, settings):
        _say(f"gold {ds}: {run(tables, settings, ds)} tagged conversations")


@app.command(rich_help_panel=OWN)
def export_gold(
    ds: Ds, out: Annotated[Path, typer.Option(help="File to write, JSON Lines as docs/own-chats.md has them.")]
) -> None:
    """The gold known on a night as labelled conversations, redacted, for the commands of this panel."""
    from jobs.conversation import write_conversations
    from jobs.gold_reader import gold_conversations

    with _tables("export-gold", ds) as (tables, _):
        found = gold_conversations(tables, ds)
        write_conversations(out, found)
        _say(f"export-gold {ds}: {len(found)} conversations in {out}")


@app.command(rich_help_panel=NIGHT)
def train(ds: Ds) -> None:
    """Train and calibrate the student on gold; unchanged gold trains nothing anew."""
    from jobs.train import train as run

    with _tables("train", ds) as (tables, settings):
        result = run(tables, settings, ds, _say)
        how = "trained" if result.trained else "unchanged"
        _say(
            f"train {ds}: student {result.key} {how} "
            f"({result.train_conversations} train, {result.calibration_conversations} calibration conversations, "
            f"{result.lessons} lessons of the LLM)"
        )


@app.command(rich_help_panel=NIGHT)
def plan(ds: Ds) -> None:
    """Say what labelling the night would cost, from measured rates; nothing is asked."""
    from jobs.plan import plan as run
    from jobs.planning.table import plan_table

    with _tables("plan", ds) as (tables, settings):
        found = run(tables, settings, ds)
        Console(markup=False).print(plan_table(found))


@app.command(rich_help_panel=NIGHT)
def label(ds: Ds) -> None:
    """Tag the night's conversations: the student first, the LLM for what the student is unsure of."""
    from jobs.label import label as run

    with _tables("label", ds) as (tables, settings):
        _say(f"label {ds}: {run(tables, settings, ds, _say)}")


@app.command(rich_help_panel=NIGHT)
def score(ds: Ds) -> None:
    """Measure precision and recall on gold."""
    from jobs.score import score as run

    with _tables("score", ds) as (tables, settings):
        _say(f"score {ds}: {run(tables, settings, ds)}")


@app.command(rich_help_panel=NIGHT)
def gate(ds: Ds) -> None:
    """Stop the night where quality on gold is under the floor."""
    from jobs.gate import gate as run

    with _tables("gate", ds) as (tables, settings):
        _say(f"gate {ds}: {run(tables, settings, ds)}")


@app.command(rich_help_panel=NIGHT)
def profile(ds: Ds) -> None:
    """Fold everything known up to the night into customer profiles."""
    from jobs.profile import profile as run

    with _tables("profile", ds) as (tables, settings):
        counts = run(tables, settings, ds, _say)
        _say(f"profile {ds}: " + ", ".join(f"{rows} rows in {name}" for name, rows in counts.items()))


@app.command(rich_help_panel=NIGHT)
def report(ds: Ds) -> None:
    """Write the tag quality report."""
    from jobs.report.build import build_report

    with _tables("report", ds) as (tables, settings):
        _say(f"report {ds}: {build_report(tables, settings, ds)}")


@app.command(rich_help_panel=NIGHT)
def track(ds: Ds) -> None:
    """Log the night, its report and its student to MLflow."""
    from jobs.report.build import report_path
    from jobs.students import student_of_night
    from jobs.tracking import log_night

    with _tables("track", ds) as (tables, settings):
        page = report_path(settings, ds)
        run_id = log_night(tables, settings, ds, student_dir=student_of_night(settings, ds)[1], report=page)
        _say(f"track {ds}: MLflow run {run_id}")


@app.command(rich_help_panel=NIGHT)
def publish(
    ds: Ds, force: Annotated[bool, typer.Option(help="Publish an old night over a newer one.")] = False
) -> None:
    """Bring the profile tables to the CRM's database in one transaction."""
    from jobs.publish import publish as run

    with _tables("publish", ds) as (tables, settings):
        _say(f"publish {ds}: {run(tables, settings, ds, force=force)}")


@app.command(rich_help_panel=TAXONOMY)
def sample(ds: Ds) -> None:
    """Choose conversations that stand for the business."""
    from jobs.sample import sample as run

    with _tables("sample", ds) as (tables, settings):
        _say(f"sample {ds}: {run(tables, settings, ds)}")


@app.command(rich_help_panel=TAXONOMY)
def induce(
    ds: Ds, llm: Annotated[bool, typer.Option(help="Let the LLM name and define; without it, keywords.")] = True
) -> None:
    """Induce a proposed taxonomy from the sample."""
    from jobs.induce import induce as run

    with _tables("induce", ds) as (tables, settings):
        _say(f"induce {ds}: {run(tables, settings, ds, use_llm=llm, say=_say)}")


@app.command(rich_help_panel=TAXONOMY)
def diff(ds: Ds) -> None:
    """Say in words how the proposed taxonomy differs from the approved one."""
    from jobs.induce import write_diff

    settings = load_settings()
    _say(f"diff {ds}: {write_diff(settings, check_ds(ds))}")


app.command(rich_help_panel=OWN)(evaluate)
app.command(rich_help_panel=OWN)(learning_curve)
app.command(rich_help_panel=OWN)(flips)
app.command(rich_help_panel=OWN)(compare)
app.command(rich_help_panel=TAXONOMY)(unexplained)
app.command(rich_help_panel=OWN)(split)
app.command(rich_help_panel=OWN)(recovery)
app.command(rich_help_panel=OWN)(learn_encoder)
app.command(rich_help_panel=OWN)(evaluate_induction)


@app.command(rich_help_panel=AROUND)
def demo(ds: Ds = "2026-11-20") -> None:
    """The whole night on the sample chats with real engines, then a summary."""
    from jobs.demo import demo as run

    run(load_settings(), check_ds(ds))


@app.command(rich_help_panel=AROUND)
def summary(ds: Ds) -> None:
    """What a night did, in a few lines."""
    from jobs.summary import render
    from jobs.summary import summary as run

    with _tables("summary", ds) as (tables, settings):
        Console().print(render(run(tables, settings, ds)))


@app.command(rich_help_panel=AROUND)
def class_archive() -> None:
    """Keep Spark's Java classes in the environment, so that stages start faster (`make setup` does it)."""
    from jobs.class_archive import make_class_archive

    path = make_class_archive(load_settings())
    _say(f"class-archive: {path.stat().st_size / 1e6:.0f} MB in {path}")


@app.command(rich_help_panel=AROUND, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def airflow(context: typer.Context) -> None:
    """Run `airflow ARGUMENTS` in Dongcha's Airflow environment, for example `airflow standalone`."""
    from jobs.airflow_env import airflow_command, prepare_airflow, runs_stages

    settings = load_settings()
    prepare_airflow(settings)
    if not runs_stages(context.args):
        raise typer.Exit(airflow_command(settings, *context.args).returncode)
    from jobs.spark import shared_spark

    with shared_spark(settings):
        done = airflow_command(settings, *context.args)
    raise typer.Exit(done.returncode)


def main() -> None:
    """Run the command line; an error made for people is printed without a traceback, exit status 1."""
    try:
        app()
    except DongchaError as error:
        console.print(f"[bold red]error:[/] {type(error).__name__}", highlight=False)
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
