"""`python -m jobs dead-letters …`: what the LLM did not answer usably, and a person's wish to ask it again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.labelling.dead_letters import Letters
from jobs.opening import open_tables

app = typer.Typer(
    no_args_is_help=True, help="Requests to the LLM that came to no usable answer: list them, replay them."
)
console = Console()

Ds = Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD.", metavar="DATE")]
Reason = Annotated[str | None, typer.Option(help="Only letters of this reason.")]


def letters_table(found: Letters, ds: str) -> Table:
    """Letters by reason and state."""
    table = Table(title=f"dead letters of {ds}: {sum(found.counts.values())}")
    table.add_column("reason")
    table.add_column("state")
    table.add_column("letters", justify="right")
    for (reason, state), number in found.counts.items():
        table.add_row(Text(reason), state, str(number))
    return table


def sample_table(found: Letters, *, replies: bool) -> Table:
    """The sample, one letter a row."""
    table = Table(title="the first of them")
    for name in ("conversation", "night", "turns", "reason", "attempts", "state", *(("reply",) if replies else ())):
        table.add_column(name, overflow="fold")
    for letter in found.sample:
        turns = f"{letter.first_turn}-{letter.last_turn}"
        cells = [letter.conversation_id, letter.conversation_ds, turns, letter.reason, str(letter.attempts)]
        # Text, not markup: ids come from the source, replies from a model that read a stranger's chat.
        table.add_row(*map(Text, [*cells, letter.state, *([letter.reply] if replies else [])]))
    return table


@app.command("list")
def list_command(
    ds: Ds,
    reason: Reason = None,
    sample: Annotated[int, typer.Option(help="How many letters are shown one by one.", min=0)] = 5,
    replies: Annotated[bool, typer.Option(help="Show what the model said: it may quote the chat.")] = False,
) -> None:
    """How many there are of each reason, whether they were answered since, and the first few."""
    from jobs.labelling.dead_letters import list_letters

    with open_tables("dead-letters", ds) as (tables, _):
        found = list_letters(tables, ds, reason, sample)
    console.print(letters_table(found, ds))
    if found.sample:
        console.print(sample_table(found, replies=replies))


@app.command("replay")
def replay_command(
    ds: Ds,
    reason: Reason = None,
    conversation: Annotated[str | None, typer.Option(help="Only letters of this conversation (its id).")] = None,
) -> None:
    """Have them asked again by the next run of `label`, of this night or a later one. What is answered stays."""
    from jobs.labelling.dead_letters import replay

    with open_tables("dead-letters", ds) as (tables, _):
        found = replay(tables, ds, reason, conversation)
    waiting = f" ({found.waiting} more were wished for before)" if found.waiting else ""
    console.print(f"dead-letters {ds}: {found.requests} requests are sent again by the next `label`{waiting}")
