"""How many conversations a change of the taxonomy moves: the LLM labels a sample under both, and nothing is saved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from pyspark.sql import functions as F

from jobs.conversation import Conversation, Turn
from jobs.errors import InputError, ServerError
from jobs.llm.client import LlmClient
from jobs.llm.labelling import LabelOutcome, LabelPrompt, label_conversations
from jobs.llm.profiles import load_profile
from jobs.llm.server import server_status
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.lineage import replaces
from jobs.taxonomy import Tag, Taxonomy
from jobs.taxonomy_diff import TaxonomyDiff, diff_taxonomies, plain

Labels = Mapping[str, Set[str]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Move:
    """A changed tag: sampled conversations that have it `before` and `after` the change, and those that keep it.

    A tag that replaces others has them before; one that was split has its heirs after.
    """

    name: str
    change: str
    before: int
    after: int
    kept: int


@dataclass(frozen=True, slots=True)
class Moves:
    """`moved` of `compared` conversations gain or lose a changed tag; `unanswered` ones are not compared.

    `share`: of all conversations that the compared ones stand for, those that the moved ones stand for.
    """

    compared: int
    moved: int
    share: float
    unanswered: int
    requests: int
    tags: tuple[Move, ...]


def _families(old: Taxonomy, diff: TaxonomyDiff) -> list[tuple[dict[str, Tag], dict[str, Tag]]]:
    """(parents, heirs) by id of each split or merge; those that share an heir, or a tag that stays, are one."""
    steps = [((parent,), heirs) for parent, heirs in diff.split] + [(parents, (heir,)) for parents, heir in diff.merged]
    found: list[tuple[dict[str, Tag], dict[str, Tag]]] = []
    for parents, heirs in steps:
        mine = {tag.id: tag for tag in parents}, {tag.id: tag for tag in heirs}
        # An heir that was in use before took others in: it is a parent, too.
        mine[0].update({tag.id: tag for tag in old.tags if tag.id in mine[1] and tag.id in old.tag_ids})
        related = [family for family in found if family[1].keys() & mine[1].keys()]
        found = [family for family in found if family not in related]
        found.append((_joined([*(f[0] for f in related), mine[0]]), _joined([*(f[1] for f in related), mine[1]])))
    return found


def _joined(parts: Sequence[dict[str, Tag]]) -> dict[str, Tag]:
    return {tag_id: tag for part in parts for tag_id, tag in part.items()}


def changed_tags(old: Taxonomy, new: Taxonomy) -> list[tuple[str, str, frozenset[str], frozenset[str]]]:
    """(name, change, tags that count before, tags that count after) of each tag that differs by more than its name.

    Tags that were split and merged crosswise are one change of them all: an heir of two parents counts once.
    """
    diff = diff_taxonomies(old, new)
    found = [(tag.name, "added", frozenset[str](), frozenset([tag.id])) for tag in diff.added]
    families = _families(old, diff)
    told = {tag_id for _, heirs in families for tag_id in heirs}
    found += [
        (tag.name, "redefined", frozenset([tag.id]), frozenset([tag.id]))
        for _, tag in diff.redefined
        if tag.id not in told
    ]
    for parents, heirs in families:
        if len(heirs) == 1:
            found += [(heir.name, "merged", frozenset(parents), frozenset(heirs)) for heir in heirs.values()]
            continue
        names = " and ".join(parent.name for parent in parents.values())
        change = "split" if len(parents) == 1 else "split and merged"
        found.append((names, change, frozenset(parents), frozenset(heirs)))
        for heir in heirs.values():
            own = [parents[i] for i in (*replaces(heir), heir.id) if i in parents]
            part = "part of " + " and ".join(parent.name for parent in own)
            found.append((heir.name, part, frozenset(parent.id for parent in own), frozenset([heir.id])))
    return found + [(tag.name, "removed", frozenset([tag.id]), frozenset[str]()) for tag in diff.removed]


def compare(old: Taxonomy, new: Taxonomy, before: Labels, after: Labels) -> tuple[set[str], tuple[Move, ...]]:
    """(conversations that move, moves by tag) between two labellings of the same conversations."""
    moved: set[str] = set()
    rows = []
    for name, change, old_ids, new_ids in changed_tags(old, new):
        had = {chat for chat, tags in before.items() if tags & old_ids}
        has = {chat for chat, tags in after.items() if tags & new_ids}
        rows.append(Move(name, change, len(had), len(has), len(had & has)))
        if not change.startswith("part of"):  # its parent's row says who moved
            moved |= had ^ has
    return moved, tuple(rows)


def sampled_chats(tables: Tables, ds: str, limit: int) -> tuple[list[Conversation], dict[str, float]]:
    """Up to `limit` conversations of the sample of night `ds`, drawn by a hash: the same at every call.

    Returns:
        Them, and by id how many conversations each stands for.

    Raises:
        InputError: the night has no sample.
    """
    samples = tables.read("samples", ds).select("conversation_id", "conversation_ds", "weight")
    drawn = samples.orderBy(F.xxhash64("conversation_id"), "conversation_id").limit(limit)
    texts = tables.read_all("conversations", until=ds).withColumnRenamed("ds", "conversation_ds")
    rows = (
        texts.join(drawn, ["conversation_id", "conversation_ds"]).select("conversation_id", "turns", "weight").collect()
    )
    chats = [
        Conversation(row["conversation_id"], tuple(Turn(t["speaker"], t["text"]) for t in row["turns"])) for row in rows
    ]
    return chats, {row["conversation_id"]: row["weight"] for row in rows}


def _labels(outcomes: Sequence[LabelOutcome]) -> dict[str, frozenset[str]]:
    return {o.conversation_id: frozenset(tag.tag for tag in o.answer.tags) for o in outcomes if o.answer is not None}


def moves(
    settings: Settings,
    old: Taxonomy,
    new: Taxonomy,
    chats: Sequence[Conversation],
    progress: Progress | None = None,
    *,
    weights: Mapping[str, float],
) -> Moves:
    """Have the LLM label `chats` (each id once) under both taxonomies and count what the change moves.

    `weights`: by id, how many conversations each stands for.

    Raises:
        InputError: no tag differs by more than its name; or the LLM is reached by files.
        ServerError: the server is not up, or answered nothing usable.
    """
    if not changed_tags(old, new):
        raise InputError("no tag is added, removed, redefined, split or merged: there are no moves to count")
    if settings.llm.mode != "server":
        raise InputError(f"moves are counted with a server: llm.mode is {settings.llm.mode}")
    status = server_status(settings)
    if status.state != "up":
        raise ServerError(f"no LLM server at {status.base_url} ({status.detail}): run `python -m jobs serve up` first")
    profile = load_profile(settings)

    async def ask() -> tuple[list[dict[str, frozenset[str]]], int]:
        found = []
        async with LlmClient(profile, settings.llm) as client:
            for which, taxonomy in (("as it is", old), ("as it would be", new)):
                prompt = LabelPrompt(taxonomy, profile, overlap=settings.label.window_overlap)

                def say(done: int, total: int, which: str = which) -> None:
                    if progress:
                        progress(which, done, total)

                found.append(_labels(await label_conversations(client, prompt, chats, say)))
            return found, client.usage.requests

    (before, after), requests = asyncio.run(ask())
    both = before.keys() & after.keys()
    if not both:
        raise ServerError("the LLM gave no usable answer about any of the conversations")
    moved, rows = compare(old, new, {i: before[i] for i in both}, {i: after[i] for i in both})
    share = sum(weights[i] for i in moved) / sum(weights[i] for i in both)
    return Moves(len(both), len(moved), share, len(chats) - len(both), requests, rows)


def moves_in_words(found: Moves) -> str:
    """The counts as a page."""
    lines = [
        f"{found.moved} of {found.compared} sampled conversations move; they stand for some {found.share:.0%} of all "
        "(a sample drawn for its differences: what many say is in it once, so no interval is given), as the LLM labels "
        f"them under both versions; {found.unanswered} without a usable answer, "
        f"{found.requests} requests, nothing saved.",
        "",
        "| tag | change | before | after | gain it | lose it |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {plain(move.name)} | {plain(move.change)} | {move.before} | {move.after} "
        f"| {move.after - move.kept} | {move.before - move.kept} |"
        for move in found.tags
    ]
    return "\n".join(lines) + "\n"
