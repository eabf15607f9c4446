"""Stages induce and diff: a proposed taxonomy from the sample, and in words how it differs from the approved one.

Nothing is labelled with a proposed taxonomy: it is a file for a person to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.conversation import Conversation, Turn
from jobs.errors import GateError, InputError
from jobs.induction.asking import asker_of, step_lines
from jobs.induction.assignments import read_assignments
from jobs.induction.critic import critic_line, critic_yaml
from jobs.induction.induce import Induced
from jobs.induction.induce import induce as induce_taxonomy
from jobs.labelling.decide import CANNOT_TELL, NONE
from jobs.labelling.outcomes import KEY, is_none
from jobs.llm.profiles import load_profile
from jobs.settings import PROJECT, Settings
from jobs.storage import Tables
from jobs.students import induction_embedder
from jobs.taxonomies.align import Alignment, addable, align, in_words, proposal_of
from jobs.taxonomies.lineage import current_labels, replaces
from jobs.taxonomies.proposals import (
    ALIGNMENT,
    PROPOSAL,
    WRITTEN,
    alignment_of,
    digest_of,
    edited,
    load_proposal,
    proposal_folder,
    put_aside,
)
from jobs.taxonomies.store import latest_version, versions_asking_all
from jobs.taxonomy import Taxonomy, dump_taxonomy, load_taxonomy
from jobs.taxonomy_diff import diff_taxonomies, plain, to_markdown

CODE_VERSION = "6"
"""Raise it whenever the same sample would give another proposal."""


def _sampled(tables: Tables, ds: str) -> list[Conversation]:
    samples = tables.read("samples", ds).select("conversation_id", "conversation_ds")
    texts = tables.read_all("conversations", until=ds).withColumnRenamed("ds", "conversation_ds")
    rows = texts.join(samples, ["conversation_id", "conversation_ds"])
    return _conversations(rows.orderBy("conversation_ds", "conversation_id"))


def _conversations(rows: DataFrame) -> list[Conversation]:
    return [
        Conversation(row["conversation_id"], tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"]))
        for row in rows.select("conversation_id", "turns").toLocalIterator()
    ]


def _held_out(tables: Tables, settings: Settings, ds: str) -> list[Conversation]:
    """Conversations of the sample's window that are not in the sample, drawn by a hash of their ids."""
    if not settings.induce.held_out:
        return []
    first = (date.fromisoformat(ds) - timedelta(days=settings.sample.window_days - 1)).isoformat()
    window = tables.read_all("conversations", until=ds).where(F.col("ds") >= first)
    rest = window.join(tables.read("samples", ds).select("conversation_id"), "conversation_id", "left_anti")
    order = F.xxhash64("conversation_id", F.lit(settings.sample.seed))
    return _conversations(rest.orderBy(order, "conversation_id").limit(settings.induce.held_out))


def _key(conversations: list[Conversation], settings: Settings, use_llm: bool, version: int, vectors: str) -> str:
    """What decides a proposal: its conversations, seed, models, prompts, and the version it would be."""
    bounds = settings.induce.model_dump_json()
    digest = hashlib.sha256(f"{CODE_VERSION} {settings.sample.seed} {use_llm} {version} {bounds} {vectors}".encode())
    for conversation in conversations:
        digest.update(conversation.content_hash.encode())
    if use_llm:
        digest.update(load_profile(settings).model_dump_json().encode())
        for prompt in sorted((PROJECT / "prompts").glob("induce_*.md")):
            digest.update(prompt.read_bytes())
    return digest.hexdigest()


def _sample_labels(tables: Tables, ds: str, approved: Taxonomy, asking: Collection[int]) -> dict[str, list[str]]:
    """Approved tags of every sampled conversation that was judged; empty where none of them applies.

    Tags are called as they are now. A conversation is not judged where nobody could tell, or where all that it had was
    split since, or where it had no tag under a version that is not among `asking`: no one has asked about the tags that
    came or took the place.
    """
    samples = tables.read("samples", ds).select("conversation_id", "conversation_ds")
    done = tables.read_all("label_outcomes", until=ds).where(F.col("status") == "labelled").select(*KEY)
    given = tables.read_all("labels", until=ds).join(done, list(KEY)).join(samples, list(KEY[1:]))
    replaced = {ancestor for tag in approved.tags for ancestor in replaces(tag)}
    found: dict[str, list[str]] = {}
    unasked = (F.col("tag_id") == NONE) & ~is_none(asking)
    given = given.withColumn("tag_id", F.when(unasked, CANNOT_TELL).otherwise(F.col("tag_id")))
    for row in given.groupBy("conversation_id").agg(F.sort_array(F.collect_set("tag_id")).alias("tags")).collect():
        now = current_labels(approved, row["tags"])
        if now or replaced.union([CANNOT_TELL]).isdisjoint(row["tags"]):
            found[row["conversation_id"]] = now
    return found


def _aligned(tables: Tables, settings: Settings, ds: str, approved: Taxonomy, sampled: int) -> Alignment:
    """The night's induced taxonomy beside the approved one, by the labels there are by now."""
    folder = proposal_folder(settings, ds)
    members: dict[str, set[str]] = {}
    try:
        for conversation_id, _, tag in read_assignments(folder / "assignments.jsonl"):
            members.setdefault(tag, set()).add(conversation_id)
        induced = load_taxonomy(folder / "induced.yaml")
    except InputError as error:
        raise InputError(f"{error}; delete {folder / 'key'} and run induce again") from error
    labels = _sample_labels(tables, ds, approved, versions_asking_all(settings, approved))
    return align(induced, members, labels, sampled)


def _propose(folder: Path, approved: Taxonomy, alignment: Alignment) -> None:
    page = folder / PROPOSAL
    page.write_text(dump_taxonomy(proposal_of(approved, load_taxonomy(folder / "induced.yaml"), alignment)), "utf-8")
    (folder / WRITTEN).write_text(digest_of(page), "utf-8")
    (folder / ALIGNMENT).write_text(json.dumps(alignment.as_dict(), ensure_ascii=False, indent=1) + "\n", "utf-8")


def _write(folder: Path, induced: Induced) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PROPOSAL, WRITTEN):
        (folder / name).unlink(missing_ok=True)
    (folder / "induced.yaml").write_text(dump_taxonomy(induced.taxonomy), "utf-8")
    lines = [
        json.dumps({"conversation_id": a.conversation_id, "turn": a.turn, "tag": a.tag}, ensure_ascii=False)
        for a in induced.assignments
    ]
    (folder / "assignments.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "llm_steps.jsonl").write_text(step_lines(induced.steps), "utf-8")
    page = folder / "critic.yaml"
    page.unlink(missing_ok=True)
    if induced.critic is not None:
        page.write_text(critic_yaml(induced.critic, induced.taxonomy), "utf-8")


def induce(tables: Tables, settings: Settings, ds: str, *, use_llm: bool, say: Callable[[str], None] = print) -> str:
    """Induce a proposed taxonomy from the sample of night `ds`; returns a line that says what was found.

    A proposal that an analyst edited stays where nothing has changed since, and is put aside where a new one is due.

    Raises:
        InputError: the night has no sample, or what is kept of its proposal cannot be read.
        GateError: the sample gave no tag.
        ServerError: the LLM is wanted and does not answer.
    """
    conversations, held_out = _sampled(tables, ds), _held_out(tables, settings, ds)
    approved = latest_version(settings).taxonomy
    version = approved.version + 1
    embedder = induction_embedder(settings)
    key = _key([*conversations, *held_out], settings, use_llm, version, embedder.name)
    folder = proposal_folder(settings, ds)
    stamp = folder / "key"
    if stamp.is_file() and stamp.read_text("utf-8") == key:
        unchanged = "the sample is unchanged, nothing is asked again"
        if edited(folder):
            return f"{unchanged}; the proposal was edited and stays: {folder / PROPOSAL}"
        _propose(folder, approved, _aligned(tables, settings, ds, approved, len(conversations)))
        return f"{unchanged}: {folder / PROPOSAL}"
    last = ""

    def report(step: str, done: int, total: int) -> None:
        nonlocal last
        if step != last or done == total:
            last = step
            say(f"induce: {step}" + (f" {done} of {total}" if total > 1 else ""))

    induced = induce_taxonomy(
        conversations,
        seed=settings.sample.seed,
        embedder=embedder,
        asker=asker_of(settings) if use_llm else None,
        bounds=settings.induce,
        held_out=held_out,
        name=settings.scenario,
        progress=report,
    )
    if not induced.taxonomy.tags:
        raise GateError(f"induce {ds}: {len(conversations)} conversations gave no tag")
    stamp.unlink(missing_ok=True)
    if (aside := put_aside(folder)) is not None:
        say(f"induce: the proposal of before was edited and is put aside: {aside}")
    _write(folder, replace(induced, taxonomy=replace(induced.taxonomy, version=version)))
    alignment = _aligned(tables, settings, ds, approved, len(conversations))
    _propose(folder, approved, alignment)
    stamp.write_text(key, "utf-8")
    found = induced.taxonomy
    new = f"{len(addable(alignment, approved))} of them new beside {len(approved.tag_ids)} approved ones"
    named = f"{induced.named_by_llm} named by LLM, {induced.named_by_wish} by their turns' commonest wish"
    said = f"{len(found.tags)} tags induced under {len(found.topics)} topics, {named}, {new}"
    tried = f"; {critic_line(induced.critic)}" if induced.critic else ""
    return f"{said}{tried}: {folder / PROPOSAL}"


def write_diff(settings: Settings, ds: str) -> Path:
    """Write `diff.md` beside the proposal of night `ds` and return its path.

    Raises:
        InputError: the night has no proposal.
    """
    approved, proposed = latest_version(settings).taxonomy, load_proposal(settings, ds)
    page = proposal_folder(settings, ds) / "diff.md"
    words = to_markdown(diff_taxonomies(approved, proposed), approved, proposed)
    if (alignment := alignment_of(settings, ds)) is not None:
        words += "\n" + "\n".join(in_words(alignment, approved, plain)) + "\n"
    page.write_text(words, "utf-8")
    return page
