"""The command line of the LLM server."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from jobs.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Start, stop and look at the LLM server of the serving profile.")
_console = Console(stderr=True)


def _say(text: str) -> None:
    _console.print(text, markup=False, highlight=False, soft_wrap=True)


Ds = Annotated[str | None, typer.Option("--ds", hidden=True)]
User = Annotated[
    str | None, typer.Option("--for", help="Who uses it (a DAG): it goes on until each has called `serve down`.")
]


def _named(user: str | None, ds: str | None) -> str | None:
    """One run of a DAG: its name and night."""
    return f"{user} {ds}" if user and ds else user


@app.command("up")
def serve_up(user: User = None, ds: Ds = None) -> None:
    """Have a healthy LLM server: the one that is there, or a new one, waited for."""
    from jobs.llm.server import serve_up as run

    settings = load_settings()
    if settings.llm.mode != "server":
        _say(f"llm.mode is {settings.llm.mode}: no server is needed")
        return
    handle = run(settings, user=_named(user, ds))
    _say(f"{handle.model} at {handle.base_url}")


@app.command("down")
def serve_down(user: User = None, ds: Ds = None) -> None:
    """Stop the LLM server that `serve up` started."""
    from jobs.llm.server import serve_down as run

    settings = load_settings()
    if settings.llm.keep_server:
        _say("the LLM server is left running (llm.keep_server)")
        return
    run(settings, user=_named(user, ds))


@app.command("status")
def serve_status() -> None:
    """Say what is at the profile's address; exit status 1 where no usable server is."""
    from jobs.llm.server import server_status

    status = server_status(load_settings())
    _say(f"{status.state}: {status.base_url} {status.detail}")
    raise typer.Exit(0 if status.state == "up" else 1)
