"""Which proposed tag is which approved one: by the conversations that both of them cover.

An induced tag gets an id of its own. Where it covers what an approved tag covers, it is that tag: it keeps the approved
id and definition, so that nobody is asked about it again, and what was proposed stands beside it under `suggested`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from jobs.taxonomies.lineage import DEPRECATED
from jobs.taxonomy import Tag, Taxonomy

CLEAR = 0.5
"""From this share of common conversations on (Jaccard) two tags are one: neither has a better partner, then."""

FEWEST = 3
"""And from so many common conversations on: a tag of one conversation meets another by chance."""

Tagged = Mapping[str, frozenset[str]]
"""Conversation ids to the tags of the conversation."""


@dataclass(frozen=True, slots=True)
class Match:
    """A proposed tag that is an approved one: of `labelled` and `assigned` conversations they have `shared`."""

    proposed: str
    approved: str
    shared: int
    labelled: int
    assigned: int


def _members(tagged: Tagged) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for conversation, tags in tagged.items():
        for tag in tags:
            found.setdefault(tag, set()).add(conversation)
    return found


def match_tags(approved: Taxonomy, proposed: Taxonomy, labelled: Tagged, assigned: Tagged) -> list[Match]:
    """The clear pairs, in the proposal's order; each tag is in one pair at most.

    Only conversations on both sides count: what was never labelled says nothing. Pairs are chosen for the largest sum
    of Jaccard indices (Kuhn 1955, Munkres 1957, as in scipy); those under `CLEAR` or `FEWEST` are dropped.
    """
    common = labelled.keys() & assigned.keys()
    old = _members({c: labelled[c] for c in common})
    new = _members({c: assigned[c] for c in common})
    before = [t.id for t in approved.tags if t.status != DEPRECATED and t.id in old]
    after = [t.id for t in proposed.tags if t.status != DEPRECATED and t.id in new]
    if not before or not after:
        return []
    alike = np.array([[len(old[b] & new[a]) / len(old[b] | new[a]) for b in before] for a in after])
    rows, columns = linear_sum_assignment(-alike)
    return [
        Match(a, b, len(old[b] & new[a]), len(old[b]), len(new[a]))
        for a, b, value in ((after[r], before[c], alike[r, c]) for r, c in zip(rows, columns, strict=True))
        if value >= CLEAR and len(old[b] & new[a]) >= FEWEST
    ]


def _same(approved: Tag, proposed: Tag, match: Match) -> Tag:
    suggested = {
        "id": proposed.id,
        "name": proposed.name,
        "definition": proposed.definition,
        "conversations": {"shared": match.shared, "labelled": match.labelled, "assigned": match.assigned},
    }
    extra = approved.extra | {"suggested": suggested}
    return replace(approved, parent=proposed.parent, status="proposed", extra=extra)


def keep_ids(approved: Taxonomy, proposed: Taxonomy, matches: list[Match]) -> Taxonomy:
    """The proposal with its matched tags as they are approved; the others stay as they are proposed."""
    known = {match.proposed: match for match in matches}
    tags = tuple(
        _same(approved.tag(known[tag.id].approved), tag, known[tag.id]) if tag.id in known else tag
        for tag in proposed.tags
    )
    return replace(proposed, tags=tags)


def moved(approved: Taxonomy, kept: Taxonomy, labelled: Tagged, assigned: Tagged) -> tuple[int, int]:
    """(conversations whose tags differ, conversations compared), tags of the proposal under their kept ids."""
    renamed = {tag.extra["suggested"]["id"]: tag.id for tag in kept.tags if "suggested" in tag.extra}
    in_use = set(approved.tag_ids)
    common = labelled.keys() & assigned.keys()
    differ = sum(labelled[c] & in_use != {renamed.get(tag, tag) for tag in assigned[c]} for c in common)
    return differ, len(common)
