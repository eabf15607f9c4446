"""Stages induce and diff: a proposed taxonomy from the sample, and in words how it differs from the approved one.

Nothing is labelled with a proposed taxonomy: it is a file for a person to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jobs.conversation import Conversation, Turn
from jobs.errors import GateError
from jobs.induction.induce import Induced
from jobs.induction.induce import induce as induce_taxonomy
from jobs.induction.naming import Namer, trace_lines
from jobs.llm.profiles import load_profile
from jobs.settings import PROJECT, Settings
from jobs.storage import Tables
from jobs.student.embed import Embedder
from jobs.students import embedding_cache
from jobs.taxonomies.proposals import load_proposal, proposal_folder
from jobs.taxonomies.store import latest_version
from jobs.taxonomy import dump_taxonomy
from jobs.taxonomy_diff import diff_taxonomies, to_markdown

CODE_VERSION = "2"
"""Raise it whenever the same sample would give another proposal."""


def _sampled(tables: Tables, ds: str) -> list[Conversation]:
    samples = tables.read("samples", ds).select("conversation_id", "conversation_ds")
    texts = tables.read_all("conversations", until=ds).withColumnRenamed("ds", "conversation_ds")
    rows = texts.join(samples, ["conversation_id", "conversation_ds"]).orderBy("conversation_ds", "conversation_id")
    return [
        Conversation(row["conversation_id"], tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"]))
        for row in rows.select("conversation_id", "turns").toLocalIterator()
    ]


def _key(conversations: list[Conversation], settings: Settings, use_llm: bool, version: int) -> str:
    """What decides a proposal: the sample, the seed, the model, what it is told, and the version it would be."""
    digest = hashlib.sha256(f"{CODE_VERSION} {settings.sample.seed} {use_llm} {version}".encode())
    for conversation in conversations:
        digest.update(conversation.content_hash.encode())
    if use_llm:
        digest.update(load_profile(settings).model_dump_json().encode())
        for prompt in sorted((PROJECT / "prompts").glob("induce_*.md")):
            digest.update(prompt.read_bytes())
    return digest.hexdigest()


def _write(folder: Path, induced: Induced) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "taxonomy.yaml").write_text(dump_taxonomy(induced.taxonomy), "utf-8")
    lines = [
        json.dumps({"conversation_id": a.conversation_id, "turn": a.turn, "tag": a.tag}, ensure_ascii=False)
        for a in induced.assignments
    ]
    (folder / "assignments.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "trace.jsonl").write_text(trace_lines(induced.trace), "utf-8")


def induce(tables: Tables, settings: Settings, ds: str, *, use_llm: bool, say: Callable[[str], None] = print) -> str:
    """Induce a proposed taxonomy from the sample of night `ds`; returns a line that says what was found.

    Raises:
        InputError: the night has no sample.
        GateError: the sample gave no tag.
        ServerError: the LLM is wanted and does not answer.
    """
    conversations = _sampled(tables, ds)
    version = latest_version(settings).taxonomy.version + 1
    folder, key = proposal_folder(settings, ds), _key(conversations, settings, use_llm, version)
    stamp = folder / "key"
    if stamp.is_file() and stamp.read_text("utf-8") == key:
        return f"the sample is unchanged, nothing is asked again: {folder / 'taxonomy.yaml'}"
    last = ""

    def report(step: str, done: int, total: int) -> None:
        nonlocal last
        if step != last or done == total:
            last = step
            say(f"induce: {step}" + (f" {done} of {total}" if total > 1 else ""))

    induced = induce_taxonomy(
        conversations,
        seed=settings.sample.seed,
        embedder=Embedder(embedding_cache(settings), settings.student.threads),
        # A weak model that fails twice at a name will fail again; the keyword name is there.
        namer=Namer(load_profile(settings), settings.llm.model_copy(update={"retries": 1})) if use_llm else None,
        name=settings.scenario,
        progress=report,
    )
    if not induced.taxonomy.tags:
        raise GateError(f"induce {ds}: {len(conversations)} conversations gave no tag")
    stamp.unlink(missing_ok=True)
    _write(folder, replace(induced, taxonomy=replace(induced.taxonomy, version=version)))
    stamp.write_text(key, "utf-8")
    by_llm = sum(bool(entry["accepted"]) for entry in induced.trace)
    return f"{len(induced.taxonomy.tags)} tags proposed ({by_llm} named by the LLM): {folder / 'taxonomy.yaml'}"


def write_diff(settings: Settings, ds: str) -> Path:
    """Write `diff.md` beside the proposal of night `ds` and return its path.

    Raises:
        InputError: the night has no proposal.
    """
    approved, proposed = latest_version(settings).taxonomy, load_proposal(settings, ds)
    page = proposal_folder(settings, ds) / "diff.md"
    page.write_text(to_markdown(diff_taxonomies(approved, proposed), approved, proposed), "utf-8")
    return page
