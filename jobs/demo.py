"""The demo: one night of the sample chats on real engines, from chat logs to the CRM's tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from rich.console import Console

from jobs.airflow_env import prepare_airflow, run_dag
from jobs.llm.server import running_server
from jobs.settings import Settings

console = Console(stderr=True)


def _step(number: int, title: str) -> None:
    console.rule(f"[bold]{number}/4  {title}", align="left")


def _timed(what: str, run: Callable[[], None]) -> None:
    started = time.monotonic()
    run()
    console.print(f"[green]done[/] {what} ({time.monotonic() - started:.0f} s)", highlight=False)


def _show(line: str) -> None:
    console.print(line, style="bold" if line.startswith("▸") else None, markup=False, highlight=False, soft_wrap=True)


def demo(settings: Settings, ds: str) -> None:
    """Run `taxonomy` and `nightly` for night `ds` with the LLM server up, then print the summary.

    The server is stopped at the end, also when something fails.

    Raises:
        DongchaError: a step failed; what it said is printed above.
    """
    from jobs.spark import shared_spark, spark_session
    from jobs.storage import Tables
    from jobs.summary import render, summary

    began = time.monotonic()
    # The DAGs start and stop a server of their own; here one server serves both, so theirs must leave it alone.
    os.environ["DONGCHA_LLM__KEEP_SERVER"] = "true"
    _step(1, f"LLM server (profile {settings.llm.profile}) and Airflow")
    _timed("Airflow is prepared", lambda: prepare_airflow(settings))
    with shared_spark(settings):
        with running_server(settings):
            _step(2, f"DAG taxonomy, night {ds}: sample, induce, diff")
            # Nobody is there to answer: the run ends with the diff, the proposal stays open.
            _timed("taxonomy", lambda: run_dag(settings, "taxonomy", ds, _show, {"ask_person": False}))
            _step(3, f"DAG nightly, night {ds}: ingest, label, score, profile, publish")
            _timed("nightly", lambda: run_dag(settings, "nightly", ds, _show))
        _step(4, "Summary")
        tables = Tables(spark_session(settings, "summary"), settings.warehouse, settings.storage.format)
        Console().print(render(summary(tables, settings, ds)))
    console.print(f"the whole demo took {time.monotonic() - began:.0f} s", highlight=False)
