"""The command line of the offline mode."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from jobs.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Requests to the LLM as files, for clusters without a server.")
_console = Console(stderr=True)
Night = Annotated[str, typer.Option("--ds", help="The night.", metavar="DATE")]


def _say(text: str) -> None:
    _console.print(text, highlight=False, soft_wrap=True, markup=False)


@app.command()
def status(ds: Night) -> None:
    """How many requests a night waits for."""
    from jobs.llm.run_batch import offline_folder, said

    folder = offline_folder(load_settings(), ds)
    _say(said(folder.collect(), folder))


@app.command()
def run(
    ds: Night,
    only_files: Annotated[bool, typer.Option("--only-files", help="Write input files and say the commands.")] = False,
) -> None:
    """Answer them with `vllm run-batch` on this machine; then run `label` again."""
    from jobs.llm.run_batch import run_batch

    settings = load_settings()
    run_batch(settings, ds, most=settings.llm.batch_size, say=_say, only_files=only_files)
