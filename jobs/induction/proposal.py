"""From groups to a proposed taxonomy: names, definitions, and ids that stay the same when the groups do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jobs.induction.groups import Group, Topic
from jobs.taxonomy import Example, Tag, Taxonomy

NO_INTENT = "none"
"""What a turn is assigned that carries no wish: an answer, not a tag of the taxonomy."""

_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_EXAMPLE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Naming:
    """What a person reads of a tag; `slug` is lower-case ASCII, may be empty.

    `shown` are places among the group's typical turns that show the tag best; none means the most typical ones.
    """

    name: str
    definition: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    slug: str = ""
    shown: tuple[int, ...] = ()


def slug(text: str) -> str:
    """Lower-case ASCII letters and digits joined by `_`, at most 40 characters; empty where there are none."""
    return _NOT_SLUG.sub("_", text.lower()).strip("_")[:40].strip("_")


def keyword_naming(group: Group, language: str) -> Naming:
    """The name of a group nobody could name better: its strongest keywords, and typical turns as its definition."""
    chinese = language.startswith("zh")
    strongest = list(group.keywords[:3]) or [("第" if chinese else "group ") + str(group.number + 1)]
    quotes = [turn.core[:80] for turn in group.examples[:2]]
    if chinese:
        definition = f"客户的话常提到：{'、'.join(group.keywords[:6]) or strongest[0]}。典型说法：" + "；".join(
            f"“{quote}”" for quote in quotes
        )
        return Naming("、".join(strongest), definition)
    spoken = "; ".join(f'"{quote}"' for quote in quotes)
    definition = f"Turns about {', '.join(group.keywords[:6]) or strongest[0]}. Typical: {spoken}"
    return Naming(", ".join(strongest), definition, slug=slug(" ".join(strongest[:2])))


def wish_naming(group: Group, wish: str, language: str) -> Naming:
    """The name of a group that got none of its own, where an LLM told what each turn wants: what most of them do."""
    own = keyword_naming(group, language)
    if language.startswith("zh"):
        said = "、".join(f"{text}（{turns} 句）" for text, turns in group.wishes)
        return Naming(wish, f"客户多想：{said}。{own.definition}")
    said = ", ".join(f"{text} ({turns} turns)" for text, turns in group.wishes)
    return Naming(wish, f"Customers mostly want: {said}. {own.definition}", slug=slug(wish))


def fallback_namings(
    groups: Sequence[Group], named: Mapping[int, Naming], language: str, no_names: Collection[str] = ()
) -> dict[int, Naming]:
    """Names by number for the `groups` that are not `named`: a common wish that is no other's name, else keywords.

    `no_names`: wishes, case folded, that name nothing.
    """
    taken = {naming.name.casefold() for naming in named.values()} | set(no_names)
    found: dict[int, Naming] = {}
    for group in groups:
        if group.number in named:
            continue
        wish = next((text for text, _ in group.wishes if text.casefold() not in taken), "")
        found[group.number] = wish_naming(group, wish, language) if wish else keyword_naming(group, language)
        taken.add(found[group.number].name.casefold())
    return found


def tag_ids(groups: Sequence[Group], namings: Sequence[Naming]) -> list[str]:
    """Slug and a short hash of the group's keywords: the same groups get the same ids, whatever their numbers."""
    found: list[str] = []
    for group, naming in zip(groups, namings, strict=True):
        body = "\x1f".join(sorted(group.keywords)) or "\x1f".join(turn.text for turn in group.examples)
        digest = hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()
        stem = naming.slug or slug(naming.name) or "tag"
        identifier = next(
            candidate for end in range(6, 65) if (candidate := f"{stem}_{digest[:end]}") not in found or end == 64
        )
        found.append(identifier if identifier not in found else f"{identifier}_{group.number}")
    return found


def _examples(group: Group, naming: Naming) -> tuple[Example, ...]:
    """Typical turns with where they were said, those first that the namer pointed to."""
    rest = [place for place in range(len(group.examples)) if place not in naming.shown]
    turns = [group.examples[place] for place in (*naming.shown, *rest)]
    return tuple(Example(turn.text[:_EXAMPLE_CHARS], turn.conversation_id, turn.turn) for turn in turns)


def _topics(headings: Sequence[tuple[Topic, Naming]], ids: Sequence[str]) -> tuple[tuple[Tag, ...], dict[int, str]]:
    """The headings as tags, and the id of the lowest heading over each group."""
    found: list[Tag] = []
    above: dict[int, str] = {}
    for topic, naming in headings:
        body = "\x1f".join(sorted(ids[number] for number in topic.members))
        digest = hashlib.sha256(body.encode()).hexdigest()
        parent = found[topic.parent].id if topic.parent is not None else None
        identifier = f"{naming.slug or slug(naming.name) or 'topic'}_{digest[:8]}"
        found.append(Tag(identifier, naming.name, naming.definition, kind="topic", parent=parent, status="proposed"))
        above |= dict.fromkeys(topic.members, identifier)
    return tuple(found), above


def build_taxonomy(
    groups: Sequence[Group],
    namings: Mapping[int, Naming],
    headings: Sequence[tuple[Topic, Naming]] = (),
    *,
    name: str,
    language: str,
) -> Taxonomy:
    """One proposed tag a group, largest first, each with typical turns and where they were said.

    `headings` stand before the ones under them; their `members` are numbers of groups.
    """
    chosen = [namings[group.number] for group in groups]
    ids = tag_ids(groups, chosen)
    topics, above = _topics(headings, ids)
    tags = tuple(
        Tag(
            id=identifier,
            name=naming.name,
            definition=naming.definition,
            include=naming.include,
            exclude=naming.exclude,
            examples=_examples(group, naming),
            parent=above.get(group.number),
            status="proposed",
            extra={"turns": group.size, "keywords": list(group.keywords)},
        )
        for identifier, group, naming in zip(ids, groups, chosen, strict=True)
    )
    return Taxonomy(name, 1, tags, language=language, status="proposed", topics=topics)
