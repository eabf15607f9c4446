"""Taxonomies: YAML files that an analyst reads and reviews like code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from jobs.errors import InputError

STATUSES = ("proposed", "approved", "deprecated")
MOST_LEVELS = 3
RESERVED = ("none", "cannot_tell", "micro", "macro")
"""What labels and scores say in place of a tag's id."""


@dataclass(frozen=True, slots=True)
class Example:
    """A passage that shows a tag, pointing to where it was said (`turn` counts from 0)."""

    text: str
    conversation_id: str | None = None
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag. `id` never changes; `name` may; a new definition re-labels this tag alone."""

    id: str
    name: str
    definition: str
    kind: str = "intent"
    parameters: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    parent: str | None = None
    status: str = "approved"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def definition_hash(self) -> str:
        """SHA-256 of what decides a label: definition, include, exclude. Renaming is free."""
        body = json.dumps([self.id, self.definition, self.include, self.exclude], ensure_ascii=False)
        return hashlib.sha256(body.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """A versioned set of tags for one scenario.

    `topics` are headings over tags (or over other topics): for reading only, no conversation is labelled with one.
    A tag names the heading above it as its `parent`; with the tags there are at most three levels.
    """

    name: str
    version: int
    tags: tuple[Tag, ...]
    language: str = "zh"
    status: str = "approved"
    borders: tuple[str, ...] = ()
    topics: tuple[Tag, ...] = ()

    @property
    def tag_ids(self) -> tuple[str, ...]:
        """Ids of the tags in use, in file order."""
        return tuple(tag.id for tag in self.tags if tag.status != "deprecated")

    def tag(self, tag_id: str) -> Tag:
        """The tag of this id; KeyError where there is none."""
        for tag in self.tags:
            if tag.id == tag_id:
                return tag
        raise KeyError(tag_id)

    @property
    def content_hash(self) -> str:
        """SHA-256 over all that a labeller is told: definitions and borders."""
        in_use = [t.definition_hash for t in self.tags if t.status != "deprecated"]
        body = json.dumps([in_use, self.borders], ensure_ascii=False)
        return hashlib.sha256(body.encode()).hexdigest()


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{where}: expected a list of texts")
    return tuple(value)


def _whole(value: Any, where: str) -> int:
    try:
        number = float(value)
        if not isinstance(value, bool) and number.is_integer():
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{where}: expected a whole number, not {value!r}")


def _example(value: Any, where: str) -> Example:
    if isinstance(value, str):
        return Example(value)
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        turn = value.get("turn")
        number = _whole(turn, f"{where}: turn") if turn is not None else None
        return Example(value["text"], value.get("conversation_id"), number)
    raise InputError(f"{where}: an example is a text or {{text, conversation_id, turn}}")


def _examples(value: Any, where: str) -> tuple[Example, ...]:
    if not isinstance(value or [], list):
        raise InputError(f"{where}: expected a list")
    return tuple(_example(item, where) for item in value or ())


def _others(raw: dict[str, Any], known: set[str], where: str) -> dict[str, Any]:
    """Fields that nothing here reads: kept as they are, unless they are one of ours misspelt."""
    others = {key: value for key, value in raw.items() if key not in known}
    for key in sorted(map(str, others.keys() - {"replaces"})):
        if near := get_close_matches(key, known | {"replaces"}, n=1, cutoff=0.8):
            raise InputError(f"{where}: no field `{key}`; is `{near[0]}` meant?")
    return others


def _tag(raw: Any, where: str, number: int) -> Tag:
    known = {"id", "name", "definition", "kind", "parameters", "include", "exclude", "examples", "parent", "status"}
    place = f"{where}: tag {number}"
    if not isinstance(raw, dict) or not str(raw.get("id") or "").strip():
        raise InputError(f"{place} has no id")
    place = f"{where}: tag {raw['id']}"
    if not str(raw.get("definition") or raw.get("name") or "").strip():
        raise InputError(f"{place} has neither name nor definition")
    status = raw.get("status", "approved")
    if status not in STATUSES:
        raise InputError(f"{place}: status {status!r} is not one of {', '.join(STATUSES)}")
    parent = raw.get("parent")
    if isinstance(parent, list | dict):
        raise InputError(f"{place}: parent: expected the id of one tag or heading, not {parent!r}")
    return Tag(
        id=str(raw["id"]),
        name=str(raw.get("name") or raw["id"]),
        definition=str(raw.get("definition") or raw["name"]),
        kind=str(raw.get("kind", "intent")),
        parameters=_texts(raw.get("parameters"), f"{place}: parameters"),
        include=_texts(raw.get("include"), f"{place}: include"),
        exclude=_texts(raw.get("exclude"), f"{place}: exclude"),
        examples=_examples(raw.get("examples"), f"{place}: examples"),
        parent=str(parent) if parent is not None else None,
        status=status,
        extra=_others(raw, known, place),
    )


def _check_levels(tags: list[Tag], where: str) -> None:
    above = {tag.id: tag.parent for tag in tags}
    for tag in tags:
        if tag.parent is not None and tag.parent not in above:
            raise InputError(f"{where}: tag {tag.id}: unknown parent {tag.parent}")
    for tag in tags:
        levels, parent = 1, tag.parent
        while parent is not None and levels <= MOST_LEVELS:
            levels, parent = levels + 1, above[parent]
        if levels > MOST_LEVELS:
            raise InputError(f"{where}: tag {tag.id}: parents go round in a circle or beyond {MOST_LEVELS} levels")


def parse_taxonomy(data: Any, where: str) -> Taxonomy:
    """Build a Taxonomy from decoded YAML.

    Raises:
        InputError: naming the tag and what is wrong (missing field, repeated id, unknown parent or status,
            more than three levels).
    """
    if not isinstance(data, dict) or not isinstance(data.get("tags"), list) or not data["tags"]:
        raise InputError(f"{where}: a taxonomy needs `tags`, a list with at least one tag")
    headings = data.get("topics") or []
    if not isinstance(headings, list):
        raise InputError(f"{where}: `topics` must be a list")
    tags = [_tag(raw, where, number) for number, raw in enumerate(data["tags"], 1)]
    topics = [_tag(raw, f"{where}: topics", number) for number, raw in enumerate(headings, 1)]
    ids = [tag.id for tag in (*tags, *topics)]
    repeated = sorted({i for i in ids if ids.count(i) > 1})
    if repeated:
        raise InputError(f"{where}: tag ids repeated: {', '.join(repeated)}")
    _check_levels([*tags, *topics], where)
    return Taxonomy(
        name=str(data.get("taxonomy", Path(where).stem)),
        version=_whole(data.get("version", 1), f"{where}: version"),
        tags=tuple(tags),
        language=str(data.get("language", "zh")),
        status=str(data.get("status", "approved")),
        borders=_texts(data.get("borders"), f"{where}: borders"),
        topics=tuple(topics),
    )


def check_ids(taxonomy: Taxonomy, where: str) -> None:
    """Refuse tags in use whose id says something else in labels and scores, before a version with them is stored.

    Raises:
        InputError: naming them.
    """
    if taken := sorted(set(taxonomy.tag_ids) & set(RESERVED)):
        raise InputError(f"{where}: {', '.join(taken)}: an id with a meaning of its own in labels; take another")


def load_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy file.

    Raises:
        InputError: the file is missing, is not YAML in UTF-8, or breaks a rule of `parse_taxonomy`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such taxonomy file")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: save it as UTF-8 ({error})") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise InputError(f"{path}: not YAML ({error})") from error
    return parse_taxonomy(data, str(path))


def _tag_to_dict(tag: Tag) -> dict[str, Any]:
    data: dict[str, Any] = {"id": tag.id, "kind": tag.kind, "name": tag.name, "definition": tag.definition}
    for key in ("parameters", "include", "exclude"):
        if values := getattr(tag, key):
            data[key] = list(values)
    if tag.examples:
        data["examples"] = [
            {
                key: value
                for key, value in (("text", e.text), ("conversation_id", e.conversation_id), ("turn", e.turn))
                if value is not None
            }
            for e in tag.examples
        ]
    if tag.parent:
        data["parent"] = tag.parent
    if tag.status != "approved":
        data["status"] = tag.status
    return data | tag.extra


def dump_taxonomy(taxonomy: Taxonomy) -> str:
    """The YAML text of a taxonomy, as `load_taxonomy` reads it back."""
    data: dict[str, Any] = {
        "taxonomy": taxonomy.name,
        "version": taxonomy.version,
        "status": taxonomy.status,
        "language": taxonomy.language,
    }
    if taxonomy.topics:
        data["topics"] = [_tag_to_dict(topic) for topic in taxonomy.topics]
    data["tags"] = [_tag_to_dict(tag) for tag in taxonomy.tags]
    if taxonomy.borders:
        data["borders"] = list(taxonomy.borders)
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=110)
