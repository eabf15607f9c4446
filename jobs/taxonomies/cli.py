"""`python -m jobs taxonomy …`: versions of the taxonomy, and a person's decision about a proposal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jobs.settings import Settings, load_settings
from jobs.storage import check_ds
from jobs.taxonomies.align import in_words
from jobs.taxonomies.proposals import alignment_of, all_proposals, load_proposal
from jobs.taxonomies.review import Reviewer
from jobs.taxonomies.review import approve as approve_proposal
from jobs.taxonomies.review import reject as reject_proposal
from jobs.taxonomies.store import all_versions, latest_version, version_of
from jobs.taxonomy import Taxonomy, dump_taxonomy, load_taxonomy
from jobs.taxonomy_diff import diff_taxonomies, in_ids, plain, to_markdown

app = typer.Typer(no_args_is_help=True, help="Versions of the taxonomy: look at them, approve or reject a proposal.")
console = Console()

Proposal = Annotated[str | None, typer.Option("--ds", help="The proposal of this night.", metavar="DATE")]
By = Annotated[str, typer.Option("--by", help="Who decides; it is recorded.")]
Note = Annotated[str, typer.Option(help="A remark for those who read it later.")]


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command("list")
def list_versions() -> None:
    """Approved versions, oldest first, then proposals and what became of them."""
    settings = load_settings()
    for version in all_versions(settings):
        taxonomy, approval = version.taxonomy, version.approval
        how = f"approved by {approval.by} at {approval.at}" if approval else "the file of the settings"
        since = f"from {version.from_ds}" if version.from_ds else "from the beginning"
        _say(f"version {taxonomy.version}  {len(taxonomy.tag_ids)} tags in use  {since}  {how}  {version.path}")
    for ds, proposal, decision in all_proposals(settings):
        state = f"{decision.decision} by {decision.by} at {decision.at}" if decision else "open"
        _say(f"proposal {ds}  version {proposal.version}  {len(proposal.tag_ids)} tags  {state}")


@app.command()
def show(
    version: Annotated[int | None, typer.Argument(help="Number of an approved version; the newest without it.")] = None,
    ds: Proposal = None,
) -> None:
    """Print a version, or a proposal, as YAML to edit."""
    settings = load_settings()
    _say(dump_taxonomy(_chosen(settings, version, ds)))


def _chosen(settings: Settings, version: int | None, ds: str | None) -> Taxonomy:
    if ds is not None:
        return load_proposal(settings, check_ds(ds))
    return (latest_version(settings) if version is None else version_of(settings, version)).taxonomy


@app.command()
def diff(
    old: Annotated[
        int | None, typer.Argument(help="Number of the older version; the newest approved without it.")
    ] = None,
    new: Annotated[int | None, typer.Argument(help="Number of the newer version.")] = None,
    ds: Proposal = None,
) -> None:
    """Say in words how one version, or a proposal (--ds), differs from another."""
    settings = load_settings()
    before, after = _chosen(settings, old, None), _chosen(settings, new, ds)
    _say(to_markdown(diff_taxonomies(before, after), before, after))
    if ds is not None and (alignment := alignment_of(settings, ds)) is not None:
        _say("\n".join(in_words(alignment, before, plain)))


@app.command("moves")
def count_moves(
    *,
    old: Annotated[int | None, typer.Argument(help="Number of the older version; the newest approved without it.")] = (
        None
    ),
    new: Annotated[int | None, typer.Argument(help="Number of the newer version; the night's proposal without it.")] = (
        None
    ),
    ds: Annotated[str, typer.Option("--ds", help="The night whose sample is labelled, and its proposal.")],
    file: Annotated[Path | None, typer.Option(help="An edited taxonomy instead of the proposal's.")] = None,
    limit: Annotated[int, typer.Option(help="Conversations at most; each is asked about twice.", min=1)] = 50,
) -> None:
    """How many sampled conversations a change moves: the LLM labels them under both, nothing is saved."""
    from jobs.evaluation.progress import Bars
    from jobs.opening import open_tables
    from jobs.taxonomies.moves import moves, moves_in_words, sampled_chats

    with open_tables("taxonomy", ds) as (tables, settings):
        chats, weights = sampled_chats(tables, ds, limit)
    before = _chosen(settings, old, None)
    after = load_taxonomy(file) if file is not None else _chosen(settings, new, None if new is not None else ds)
    with Bars() as progress:
        found = moves(settings, before, after, chats, progress, weights=weights)
    _say(moves_in_words(found))


@app.command()
def approve(
    *,
    by: By,
    ds: Proposal = None,
    file: Annotated[Path | None, typer.Option(help="An edited taxonomy to approve instead of the proposal's.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Id of a tag whose change is not adopted.")] = None,
    from_ds: Annotated[str | None, typer.Option("--from", help="First night it holds for.", metavar="DATE")] = None,
    note: Note = "",
) -> None:
    """Approve a proposal (--ds), or a taxonomy of your own (--file with --from)."""
    settings = load_settings()
    before = latest_version(settings).taxonomy
    version = approve_proposal(settings, Reviewer(by, note), ds=ds, file=file, leave_out=without or (), from_ds=from_ds)
    if version.taxonomy.version == before.version:
        _say(f"the proposal changes nothing: version {before.version} stays")
        return
    _say(f"version {version.taxonomy.version} holds from {version.from_ds} on: {version.path}")
    # A proposal may have been edited after its diff was read: say what was approved in the end.
    changes = in_ids(diff_taxonomies(before, version.taxonomy)) or "no tag and no border changed"
    _say(f"against version {before.version}: {changes}")


@app.command()
def reject(
    ds: Annotated[str, typer.Option("--ds", help="The proposal of this night.", metavar="DATE")],
    by: By,
    note: Note = "",
) -> None:
    """Reject a proposal; the version in force stays."""
    _say(f"rejected: {reject_proposal(load_settings(), Reviewer(by, note), check_ds(ds))}")
