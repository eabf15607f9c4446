"""`python -m jobs unexplained`; `jobs/cli.py` puts it beside the other commands about the taxonomy."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from jobs.opening import open_tables


def unexplained(ds: Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD.", metavar="DATE")]) -> None:
    """Say what share of the night no tag explains; exit status 99 where that is no reason for new tags."""
    from jobs.unexplained import SKIP
    from jobs.unexplained import unexplained as run

    with open_tables("unexplained", ds) as (tables, settings):
        found = run(tables, settings, ds)
    Console(stderr=True).print(f"unexplained {ds}: {found}", highlight=False, soft_wrap=True)
    if not found.due:
        raise typer.Exit(SKIP)
