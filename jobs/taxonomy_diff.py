"""Two taxonomies compared in words an analyst reads.

Tags of one lineage share their ids: what differs is added, removed, renamed or redefined. An induced taxonomy shares no
ids with the approved one, so every proposed tag is also set beside the approved tag that its words are nearest to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.taxonomies.lineage import DEPRECATED, heirs
from jobs.taxonomy import Tag, Taxonomy

NEW_BELOW = 0.15
"""A proposed tag less alike than this to every approved one looks new; a rule of thumb, the page shows the figure."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A proposed tag and the approved tag its words are nearest to; `similarity` is a cosine in [0, 1]."""

    proposed: Tag
    approved: Tag
    similarity: float

    @property
    def looks_new(self) -> bool:
        """Whether no approved tag is near."""
        return self.similarity < NEW_BELOW


@dataclass(frozen=True, slots=True)
class TaxonomyDiff:
    """What changed from `old` to `new`; `neighbours` covers the added tags, `uncovered` old tags nothing is near to.

    `split` is (old tag, its heirs), `merged` (old tags, their heir); these tags are not among `added` and `removed`.
    `edited`: tags whose kind, parameters, examples or heading changed; `borders`: those
    that went, and those that came.
    """

    added: tuple[Tag, ...]
    removed: tuple[Tag, ...]
    renamed: tuple[tuple[Tag, Tag], ...]
    redefined: tuple[tuple[Tag, Tag], ...]
    neighbours: tuple[Neighbour, ...]
    uncovered: tuple[Tag, ...]
    split: tuple[tuple[Tag, tuple[Tag, ...]], ...] = ()
    merged: tuple[tuple[tuple[Tag, ...], Tag], ...] = ()
    edited: tuple[Tag, ...] = ()
    borders: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def _text(tag: Tag) -> str:
    return " ".join([tag.name, tag.definition, *tag.include, *(e.text for e in tag.examples)])


def _nearest(new: Sequence[Tag], old: Sequence[Tag]) -> tuple[list[Neighbour], list[Tag]]:
    if not new or not old:
        return [], list(old)
    from sklearn.feature_extraction.text import TfidfVectorizer  # a second to import

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
    table = vectorizer.fit_transform([_text(t) for t in [*old, *new]])
    cosines = np.asarray((table[len(old) :] @ table[: len(old)].T).todense())
    found = [Neighbour(tag, old[int(row.argmax())], float(row.max())) for tag, row in zip(new, cosines, strict=True)]
    return found, [tag for tag, column in zip(old, cosines.T, strict=True) if column.max() < NEW_BELOW]


def _in_use(taxonomy: Taxonomy) -> dict[str, Tag]:
    return {t.id: t for t in taxonomy.tags if t.status != DEPRECATED}


def _lineage(
    before: dict[str, Tag], new: Taxonomy
) -> tuple[tuple[tuple[Tag, tuple[Tag, ...]], ...], tuple[tuple[tuple[Tag, ...], Tag], ...]]:
    """Splits and merges of the tags `before`; a tag that took the place of one other alone counts as merged."""
    came = {ancestor: ids for ancestor, ids in heirs(new).items() if ancestor in before}
    split = tuple((before[a], tuple(map(new.tag, ids))) for a, ids in came.items() if len(ids) > 1)
    into: dict[str, list[Tag]] = {}
    for ancestor, ids in came.items():
        if len(ids) == 1:
            into.setdefault(ids[0], []).append(before[ancestor])
    return split, tuple((tuple(parents), new.tag(heir)) for heir, parents in into.items())


def _rest(tag: Tag) -> tuple[object, ...]:
    return tag.kind, tag.parameters, tag.examples, tag.parent


def _only(these: Sequence[str], those: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in these if text not in those)


def diff_taxonomies(old: Taxonomy, new: Taxonomy) -> TaxonomyDiff:
    """What changed from `old` to `new`."""
    before, after = _in_use(old), _in_use(new)
    split, merged = _lineage(before, new)
    born = {t.id for _, children in split for t in children} | {t.id for _, t in merged}
    gone = {t.id for t, _ in split} | {t.id for parents, _ in merged for t in parents}
    both = [(before[i], after[i]) for i in before if i in after]
    added = tuple(t for i, t in after.items() if i not in before and i not in born)
    removed = tuple(t for i, t in before.items() if i not in after and i not in gone)
    neighbours, uncovered = _nearest(added, tuple(before.values()))
    return TaxonomyDiff(
        added,
        removed,
        tuple((a, b) for a, b in both if a.name != b.name),
        tuple((a, b) for a, b in both if a.definition_hash != b.definition_hash),
        tuple(neighbours),
        tuple(t for t in uncovered if t.id not in after and t.id not in gone) if added else (),
        split,
        merged,
        tuple(b for a, b in both if _rest(a) != _rest(b)),
        (_only(old.borders, new.borders), _only(new.borders, old.borders)),
    )


def in_ids(diff: TaxonomyDiff) -> str:
    """The changes in one line of ids, without a word of a chat: `added a, b; redefined c`; empty if nothing changed."""
    parts = {
        "added": [t.id for t in diff.added],
        "removed": [t.id for t in diff.removed],
        "renamed": [t.id for t, _ in diff.renamed],
        "redefined": [t.id for t, _ in diff.redefined],
        "split": [f"{t.id} into {' and '.join(c.id for c in children)}" for t, children in diff.split],
        "merged": [f"{' and '.join(t.id for t in parents)} into {t.id}" for parents, t in diff.merged],
        "other fields of": [t.id for t in diff.edited],
        "borders": [f"{len(found)} {what}" for found, what in zip(diff.borders, ("gone", "new"), strict=True) if found],
    }
    return "; ".join(f"{kind} {', '.join(ids)}" for kind, ids in parts.items() if ids)


_MARKS = re.compile(r"[\\`*_{}\[\]<>|#!&~]|^[-+=]")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])")
# Direction marks and overrides: they would turn round what stands beside them (CVE-2021-42574).
_TURNERS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Text of a chat inside Markdown: no line breaks, no markup, no lists, no table cells, no turned lines."""
    flat = " ".join(_TURNERS.sub("", text).split())
    return _NUMBERED.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", flat))


def _names(tags: Sequence[Tag]) -> str:
    return ", ".join(f"{plain(t.name)} ({plain(t.id)})" for t in tags)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _told(before: Tag, after: Tag) -> str:
    """What a labeller is told of a tag, where it changed."""
    lines = [f"{plain(before.definition)} → {plain(after.definition)}"] if before.definition != after.definition else []
    for field, was, now in (("include", before.include, after.include), ("exclude", before.exclude, after.exclude)):
        lines += [f"{field}, gone: {plain(text)}" for text in _only(was, now)]
        lines += [f"{field}, new: {plain(text)}" for text in _only(now, was)]
    return "; ".join(lines) or "the order of include or exclude"


def to_markdown(diff: TaxonomyDiff, old: Taxonomy, new: Taxonomy) -> str:
    """The diff as a page: what to look at first, then every change."""
    lines = [
        f"# {plain(new.name)}: version {new.version} ({new.status}) against version {old.version} ({old.status})",
        "",
        f"{len(diff.added)} tags added, {len(diff.removed)} removed, {len(diff.renamed)} renamed, "
        f"{len(diff.redefined)} redefined, {len(diff.split)} split, {len(diff.merged)} merged.",
        "",
    ]
    if diff.neighbours:
        lines += ["## Proposed tags beside the nearest approved one", ""]
        lines += ["| proposed | nearest approved | alike (0 to 1) | |", "|---|---|---|---|"]
        for n in sorted(diff.neighbours, key=lambda n: n.similarity):
            name = f"{plain(n.proposed.name)} ({plain(n.proposed.id)})"
            near = f"{plain(n.approved.name)} ({plain(n.approved.id)})"
            lines.append(f"| {name} | {near} | {n.similarity:.2f} | {'looks new' if n.looks_new else ''} |")
        lines.append("")
    lines += _section("Approved tags that nothing proposed is near to", [f"- {plain(t.name)}" for t in diff.uncovered])
    lines += _section("Added", [f"- **{plain(t.name)}**: {plain(t.definition)}" for t in diff.added])
    split = [f"- {plain(t.name)} → {_names(children)}" for t, children in diff.split]
    lines += _section("Split", split)
    lines += _section("Merged", [f"- {_names(parents)} → {plain(t.name)}" for parents, t in diff.merged])
    lines += _section("Renamed", [f"- {plain(a.name)} → {plain(b.name)}" for a, b in diff.renamed])
    redefined = [f"- {plain(b.name)}: {_told(a, b)}" for a, b in diff.redefined]
    lines += _section("Redefined: these tags are labelled again", redefined)
    edited = [f"- {plain(t.name)}" for t in diff.edited]
    lines += _section("Kind, parameters, examples or heading changed", edited)
    gone, come = diff.borders
    borders = [f"- gone: {plain(text)}" for text in gone] + [f"- new: {plain(text)}" for text in come]
    lines += _section("Borders: where the LLM is told them, all tags are labelled again", borders)
    lines += _section("Not proposed again", [f"- {plain(t.name)} ({plain(t.id)})" for t in diff.removed])
    return "\n".join(lines).rstrip() + "\n"
