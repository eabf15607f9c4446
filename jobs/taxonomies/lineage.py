"""Who became whom: a tag's ancestors and heirs, and what carries over from one version to the next.

A tag out of a split or a merge names its ancestors in `replaces`; its ancestors are deprecated, and stay in the file:
labels of old nights keep their meaning, and the id is never given again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from jobs.errors import InputError
from jobs.taxonomy import Tag, Taxonomy, check_ids

DEPRECATED = "deprecated"


def replaces(tag: Tag) -> tuple[str, ...]:
    """Ids of the tags that this one came from by split or merge."""
    found = tag.extra.get("replaces") or ()
    return tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)


def heirs(taxonomy: Taxonomy) -> dict[str, list[str]]:
    """For every id that was split or merged: the tags in use that took its place."""
    found: dict[str, list[str]] = {}
    for tag in taxonomy.tags:
        if tag.status != DEPRECATED:
            for ancestor in replaces(tag):
                found.setdefault(ancestor, []).append(tag.id)
    return found


def _successors(taxonomy: Taxonomy) -> dict[str, list[str]]:
    """For every id that was split or merged: the tags that took its place, also those that have ended since."""
    found = dict[str, list[str]]()
    for tag in taxonomy.tags:
        for ancestor in replaces(tag):
            found.setdefault(ancestor, []).append(tag.id)
    return found


def with_heirs(taxonomy: Taxonomy, labels: Collection[str]) -> list[str]:
    """Tags and what each became by merges, over all versions: labels of old nights bear the names of their time."""
    successors, found = _successors(taxonomy), dict.fromkeys(labels)
    waiting = list(labels)
    while waiting:
        match successors.get(waiting.pop()):
            case [heir] if heir not in found:
                found[heir] = None
                waiting.append(heir)
    return list(found)


def current_labels(taxonomy: Taxonomy, labels: Collection[str]) -> list[str]:
    """Tags that people gave under earlier versions, as they are called now.

    A merged tag became its one heir, over as many versions as it took. What was split or ended cannot be told without
    reading again, and is left out.
    """
    in_use, successors = set(taxonomy.tag_ids), _successors(taxonomy)

    def ends(label: str, on_the_way: frozenset[str]) -> set[str | None]:
        if label in in_use:
            return {label}
        after = [tag_id for tag_id in successors.get(label, ()) if tag_id not in on_the_way]
        return {end for tag_id in after for end in ends(tag_id, on_the_way | {label})} or {None}

    found = dict[str, None]()
    for label in labels:
        became, *others = ends(label, frozenset())
        if became is not None and not others:
            found[became] = None
    return list(found)


def asks_all(earlier: Taxonomy, now: Taxonomy) -> bool:
    """Whether under `earlier` everything was asked that tags of `now` are about: where none applied, none does now.

    An added or redefined tag was not asked about. One out of a split or merge is about what its ancestors were about.
    """
    asked = {earlier.tag(tag_id).definition_hash for tag_id in earlier.tag_ids}
    tags = {tag.id: tag for tag in now.tags}

    def known(tag_id: str, on_the_way: frozenset[str]) -> bool:
        if tag_id not in tags or tag_id in on_the_way:
            return False
        if tags[tag_id].definition_hash in asked:
            return True
        ancestors = replaces(tags[tag_id])
        return bool(ancestors) and all(known(ancestor, on_the_way | {tag_id}) for ancestor in ancestors)

    return all(known(tag_id, frozenset()) for tag_id in now.tag_ids)


def without(old: Taxonomy, new: Taxonomy, left_out: Collection[str]) -> Taxonomy:
    """`new` without the changes to some tags: these stay as they are in `old`, or do not come to be.

    A tag whose heirs are all left out stays, too.

    Raises:
        InputError: a tag is in neither version.
    """
    before, after = {t.id: t for t in old.tags}, {t.id: t for t in new.tags}
    if unknown := sorted(set(left_out) - set(before) - set(after)):
        raise InputError(f"tags to leave out that neither version has: {', '.join(unknown)}")
    kept = [before.get(t.id) if t.id in left_out else t for t in new.tags]
    back = [before[i] for i in dict.fromkeys(left_out) if i in before and i not in after]
    tags = [t for t in kept if t is not None] + back
    living = heirs(replace(new, tags=tuple(tags)))
    lost = [ancestor for ancestor in before if ancestor in heirs(new) and ancestor not in living]
    present = {t.id for t in tags}
    tags = [before[t.id] if t.id in lost else t for t in tags] + [before[i] for i in lost if i not in present]
    return replace(new, tags=tuple(tags))


def _settled(tag: Tag) -> Tag:
    extra = {k: v for k, v in tag.extra.items() if k != "suggested"}
    return replace(tag, status=tag.status if tag.status == DEPRECATED else "approved", extra=extra)


def next_version(old: Taxonomy, wanted: Taxonomy) -> Taxonomy:
    """The approved taxonomy that follows `old`: tags of `wanted`, and all others of `old` deprecated.

    A tag of `old` whose heading `wanted` does not have stands under none.

    Raises:
        InputError: `wanted` has no tag in use, two tags of one name, a reserved id, an id that was deprecated before, a
            heading with the id of a tag, an ancestor nobody knows or that is still in use.
    """
    tags = [_settled(tag) for tag in wanted.tags]
    in_use = [tag for tag in tags if tag.status != DEPRECATED]
    if not in_use:
        raise InputError("the new version has no tag in use: that would end labelling; leave at least one")
    names = [tag.name.strip() for tag in in_use]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"several tags have the name {', '.join(twice)}: analysts could not tell them apart")
    check_ids(replace(wanted, tags=tuple(in_use)), "the new version")
    ended = {tag.id for tag in old.tags if tag.status == DEPRECATED}
    if again := sorted(ended & {tag.id for tag in in_use}):
        raise InputError(f"ids that were deprecated earlier are never used again: {', '.join(again)}; take new ids")
    known = {tag.id for tag in old.tags}
    headings = {topic.id for topic in wanted.topics}
    if taken := sorted(known & headings):
        raise InputError(f"headings have ids of tags, which are never used again: {', '.join(taken)}; take new ids")
    for tag in in_use:
        if strangers := sorted(set(replaces(tag)) - known):
            raise InputError(f"tag {tag.id} replaces {', '.join(strangers)}, which no version had")
        if living := sorted(set(replaces(tag)) & {t.id for t in in_use} - {tag.id}):
            raise InputError(f"tag {tag.id} replaces {', '.join(living)}, which is still in use: deprecate it")
    here = {tag.id for tag in tags}
    tags += [replace(tag, status=DEPRECATED) for tag in old.tags if tag.id not in here]
    places = headings | {tag.id for tag in tags}
    tags = [tag if tag.parent in places else replace(tag, parent=None) for tag in tags]
    return replace(wanted, version=old.version + 1, status="approved", tags=tuple(tags))


def same(old: Taxonomy, new: Taxonomy) -> bool:
    """Whether two versions say the same."""
    return (old.tags, old.topics, old.borders, old.language) == (new.tags, new.topics, new.borders, new.language)
