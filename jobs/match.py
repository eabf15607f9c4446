"""Stage match: proposed tags that cover what approved ones cover keep the approved ids."""

from __future__ import annotations

import json
from collections import defaultdict

from jobs.induction.proposal import NO_INTENT
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.matching import Tagged, keep_ids, match_tags, moved
from jobs.taxonomies.proposals import decision_on, load_proposal, proposal_folder
from jobs.taxonomies.store import latest_version
from jobs.taxonomy import dump_taxonomy


def _labelled(tables: Tables, ds: str) -> Tagged:
    """Tags of the sample's conversations that were labelled; the empty set where none applies."""
    keys = ["conversation_id", "conversation_ds"]
    labels = tables.read_all("labels", until=ds).join(tables.read("samples", ds).select(*keys), keys)
    found: dict[str, set[str]] = defaultdict(set)
    for row in labels.select("conversation_id", "tag_id").toLocalIterator():
        found[row["conversation_id"]] |= {row["tag_id"]} - {NO_INTENT}
    return {conversation: frozenset(tags) for conversation, tags in found.items()}


def _assigned(settings: Settings, ds: str) -> Tagged:
    found: dict[str, set[str]] = defaultdict(set)
    with (proposal_folder(settings, ds) / "assignments.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found[row["conversation_id"]] |= {row["tag"]} - {NO_INTENT}
    return {conversation: frozenset(tags) for conversation, tags in found.items()}


def match(tables: Tables, settings: Settings, ds: str) -> str:
    """Give matched tags of the night's proposal their approved ids; returns a line that says how many.

    The file is rewritten once: a tag that has its approved id, or was decided about, stays as it is.

    Raises:
        InputError: the night has no proposal.
    """
    proposed, approved = load_proposal(settings, ds), latest_version(settings).taxonomy
    if decision_on(settings, ds) is not None:
        return "the proposal was decided: it stays as it is"
    if any("suggested" in tag.extra for tag in proposed.tags):
        return "approved ids were taken over already: the proposal stays as it is"
    labelled, assigned = _labelled(tables, ds), _assigned(settings, ds)
    matches = match_tags(approved, proposed, labelled, assigned)
    kept = keep_ids(approved, proposed, matches)
    differ, compared = moved(approved, kept, labelled, assigned)
    path = proposal_folder(settings, ds) / "taxonomy.yaml"
    draft = path.with_suffix(".tmp")
    draft.write_text(dump_taxonomy(kept), "utf-8")
    draft.replace(path)
    return (
        f"{len(matches)} of {len(proposed.tags)} proposed tags keep the id of an approved one; "
        f"{differ} of {compared} labelled conversations of the sample would have other tags"
    )
