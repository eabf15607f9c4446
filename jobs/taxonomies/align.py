"""An induced taxonomy beside the approved one, by the conversations that both tag: what is new, what is known already.

Approving must not throw away what people agreed on. So a proposal holds every approved tag as it is, and adds those
induced tags that mostly stand for conversations no approved tag explains. What approved tags cover already is reported,
with a hint where one tag looks like two or two look like one, and left to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.taxonomies.lineage import DEPRECATED
from jobs.taxonomy import Tag, Taxonomy

UNEXPLAINED = 0.5
"""An induced tag is new where at least this share of its conversations carries no approved tag."""

COVERS = 0.5
"""An approved tag covers an induced one of whose explained conversations it is on at least this share."""

LEAST_LABELLED = 0.5
ENOUGH_LABELLED = 50
"""With less than this share and fewer than this number of sampled conversations labelled, nothing can be said about
what is explained. The number serves a scenario's first nights, whose sample reaches back before the first label."""

Members = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Group:
    """An induced tag: how many sampled conversations it is on, how many of them are labelled, how many of these carry
    no approved tag, and which approved tags cover it (id to share of the explained ones)."""

    tag_id: str
    name: str
    conversations: int
    labelled: int
    unexplained: int
    covered_by: dict[str, float]


@dataclass(frozen=True, slots=True)
class Alignment:
    """What induced tags are to the approved ones, counted on the sample; nothing of it is saved as labels.

    `now` counts sampled conversations by approved tag. `known`: enough of the sample was labelled to compare.
    `unjudged`: tags none of whose conversations is labelled, though enough others are.
    """

    sampled: int
    labelled: int
    untagged: int
    now: dict[str, int]
    added: tuple[Group, ...]
    covered: tuple[Group, ...]
    unjudged: tuple[Group, ...] = ()

    @property
    def known(self) -> bool:
        """Whether enough of the sample has labels."""
        return self.sampled > 0 and self.labelled >= min(LEAST_LABELLED * self.sampled, ENOUGH_LABELLED)

    @property
    def look_split(self) -> dict[str, list[str]]:
        """Approved tags that several induced tags fall into, with these."""
        found: dict[str, list[str]] = {}
        for group in self.covered:
            if len(group.covered_by) == 1:
                found.setdefault(next(iter(group.covered_by)), []).append(group.tag_id)
        return {tag: ids for tag, ids in found.items() if len(ids) > 1}

    @property
    def look_merged(self) -> dict[str, list[str]]:
        """Induced tags that several approved tags cover, with these."""
        return {group.tag_id: list(group.covered_by) for group in self.covered if len(group.covered_by) > 1}

    def as_dict(self) -> dict[str, Any]:
        """For `alignment.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alignment:
        """What `as_dict` gave."""
        groups = {name: tuple(Group(**group) for group in data[name]) for name in ("added", "covered", "unjudged")}
        return cls(**{**data, **groups})


def _group(tag: Tag, members: Collection[str], labels: Mapping[str, Collection[str]]) -> Group:
    seen = [conversation for conversation in members if conversation in labels]
    explained = [conversation for conversation in seen if labels[conversation]]
    counts: dict[str, int] = {}
    for conversation in explained:
        for tag_id in labels[conversation]:
            counts[tag_id] = counts.get(tag_id, 0) + 1
    shares = {tag_id: round(count / len(explained), 3) for tag_id, count in counts.items()}
    covering = dict(sorted(((t, s) for t, s in shares.items() if s >= COVERS), key=lambda item: (-item[1], item[0])))
    return Group(tag.id, tag.name, len(members), len(seen), len(seen) - len(explained), covering)


def align(induced: Taxonomy, members: Members, labels: Mapping[str, Collection[str]], sampled: int) -> Alignment:
    """Compare by conversations.

    Args:
        induced: the induced taxonomy.
        members: its tags' conversations, by tag.
        labels: approved tags of each sampled conversation that was labelled; an empty collection: no tag applies.
        sampled: size of the sample.
    """
    now: dict[str, int] = {}
    for tags in labels.values():
        for tag_id in tags:
            now[tag_id] = now.get(tag_id, 0) + 1
    untagged = sum(not tags for tags in labels.values())
    bare = Alignment(sampled, len(labels), untagged, dict(sorted(now.items())), (), ())
    groups = [_group(tag, members.get(tag.id, ()), labels) for tag in induced.tags]

    if not bare.known:
        return replace(bare, added=tuple(groups))
    judged = [group for group in groups if group.labelled]
    return replace(
        bare,
        added=tuple(group for group in judged if group.unexplained >= UNEXPLAINED * group.labelled),
        covered=tuple(group for group in judged if group.unexplained < UNEXPLAINED * group.labelled),
        unjudged=tuple(group for group in groups if not group.labelled),
    )


def addable(alignment: Alignment, approved: Taxonomy) -> tuple[Group, ...]:
    """Groups of `alignment.added` that can be tags: no tag has their id or name, and of several with one name the
    first (the largest), because approval refuses what analysts could not tell apart."""
    ids = {tag.id for tag in (*approved.tags, *approved.topics)}
    names = {tag.name.strip() for tag in approved.tags if tag.status != DEPRECATED}
    found: list[Group] = []
    for group in alignment.added:
        name = group.name.strip()
        if group.tag_id not in ids and name not in names:
            names.add(name)
            found.append(group)
    return tuple(found)


def proposal_of(approved: Taxonomy, induced: Taxonomy, alignment: Alignment) -> Taxonomy:
    """Every tag of the approved version as it is, then the new ones; headings over new tags alone are dropped."""
    wanted = {group.tag_id for group in addable(alignment, approved)}
    new = tuple(replace(tag, parent=None) for tag in induced.tags if tag.id in wanted)
    return replace(approved, version=approved.version + 1, status="proposed", tags=(*approved.tags, *new))


def _counted(title: str, groups: Collection[Group], sampled: int, plain: Callable[[str], str]) -> list[str]:
    if not groups:
        return []
    lines = [f"## {title}", "", "| tag | labelled | of these without a tag now |", "|---|---|---|"]
    for group in groups:
        size = f"{group.conversations} of {sampled} conversations"
        lines.append(f"| {plain(group.name)}: {size} | {group.labelled} | {group.unexplained} |")
    return [*lines, ""]


def _alike(alignment: Alignment, approved: Taxonomy, plain: Callable[[str], str]) -> list[str]:
    new = addable(alignment, approved)
    rest = [group for group in alignment.added if group not in new]
    return _counted("Induced groups whose id or name a tag has already (not added)", rest, alignment.sampled, plain)


def _tables(alignment: Alignment, approved: Taxonomy, plain: Callable[[str], str]) -> list[str]:
    names, new = {tag.id: tag.name for tag in approved.tags}, addable(alignment, approved)
    lines = _counted("How many conversations would get the added tags", new, alignment.sampled, plain)
    lines += _alike(alignment, approved, plain)
    if alignment.covered:
        lines += ["## Induced groups that approved tags cover already (not proposed)", ""]
        lines += ["| group | conversations | approved tags on half or more of those with a tag |", "|---|---|---|"]
        for group in alignment.covered:
            covering = ", ".join(f"{plain(names.get(t, t))} {s:.0%}" for t, s in group.covered_by.items()) or "none"
            lines.append(f"| {plain(group.name)} | {group.conversations} | {covering} |")
        lines.append("")
    if alignment.unjudged:
        lines += ["## Induced groups none of whose conversations is labelled (not proposed)", ""]
        lines += ["| group | conversations |", "|---|---|"]
        lines += [f"| {plain(group.name)} | {group.conversations} |" for group in alignment.unjudged]
        lines.append("")
    return lines


def in_words(alignment: Alignment, approved: Taxonomy, plain: Callable[[str], str]) -> list[str]:
    """The alignment as lines of Markdown; `plain` makes text of a chat harmless."""
    total = alignment.sampled
    if not alignment.known:
        return [
            f"Only {alignment.labelled} of {total} sampled conversations are labelled, too few to say what the "
            "approved tags explain: induced tags are shown as added, whatever they hold. Run `nightly` for these "
            "nights first.",
            "",
            *_alike(alignment, approved, plain),
        ]
    names = {tag.id: tag.name for tag in approved.tags}
    rate = alignment.untagged / alignment.labelled
    lines = [
        f"Of {alignment.labelled} labelled conversations of the sample, {alignment.untagged} ({rate:.0%}) have no tag.",
        "",
    ]
    lines += _tables(alignment, approved, plain)
    called = {group.tag_id: group.name for group in alignment.covered}
    for tag_id, ids in alignment.look_split.items():
        lines.append(f"- {plain(names.get(tag_id, tag_id))} may be several: {', '.join(plain(called[i]) for i in ids)}")
    for tag_id, ids in alignment.look_merged.items():
        parts = ", ".join(plain(names.get(i, i)) for i in ids)
        lines.append(f"- {parts} may be one: {plain(called[tag_id])}")
    return [*lines, ""] if lines[-1] else lines
