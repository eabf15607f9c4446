"""Headings over the tags: at most three levels, tags included.

Ward's method (Ward 1963, J. Am. Stat. Assoc. 58(301)) over the groups' centres gives a tree; it is cut into about the
square root of the number of tags, so that a reader meets as many headings as tags under each. A heading that would hold
most of the tags of a large taxonomy is cut once more. A heading over a single tag says nothing and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from jobs.induction.asking import Asker, Question, fitting, language_code, prompt_template
from jobs.induction.features import FloatArray
from jobs.induction.groups import Group, Topic
from jobs.induction.naming import checked_name
from jobs.induction.proposal import Naming
from jobs.llm.answers import BadAnswerError, decode_json
from jobs.llm.rendering import one_line
from jobs.student.training import StageProgress

_FEWEST_TAGS = 6
_CROWDED = 9
_ANSWER_TOKENS = 128
_ROOM = {"zh": (12, 60), "en": (40, 160)}
_SHOWN = ((12, 8, 80), (8, 4, 60), (6, 2, 40), (4, 0, 0))


def _parts(centres: FloatArray, members: Sequence[int]) -> list[list[int]]:
    """`members` in about as many parts as each then has members."""
    wanted = round(math.sqrt(len(members)))
    cut = fcluster(linkage(centres[list(members)], "ward"), wanted, "maxclust")
    parts = [[m for m, part in zip(members, cut, strict=True) if part == number] for number in np.unique(cut)]
    return sorted(parts, key=lambda part: part[0])


def topic_tree(centres: FloatArray) -> list[Topic]:
    """Headings over g groups with unit `centres` (g, d), each before the ones under it; none for fewer than six."""
    count = len(centres)
    if count < _FEWEST_TAGS:
        return []
    found: list[Topic] = []
    for part in _parts(centres, range(count)):
        if not 1 < len(part) < count:
            continue
        found.append(Topic(tuple(part)))
        above = len(found) - 1
        if len(part) >= _CROWDED:
            found += [Topic(tuple(p), above) for p in _parts(centres, part) if 1 < len(p) < len(part)]
    return found


def leads_of(members: Sequence[Group], names: Sequence[str]) -> list[str]:
    """What a heading may be called after: of each tag its name where wishes are known, else its strongest keyword."""
    known = zip(members, names, strict=True)
    return [word for group, name in known for word in ([name] if group.wishes else group.keywords[:1])]


def keyword_topic(leads: Sequence[str], names: Sequence[str], language: str) -> Naming:
    """The heading that nobody could name better: `leads`, a word or two for each of its tags, and their `names`."""
    chinese = language_code(language) == "zh"
    strongest = list(dict.fromkeys(leads))[:2] or list(names[:2])
    if chinese:
        return Naming(" / ".join(strongest), "包括：" + "；".join(names))
    return Naming(" / ".join(strongest), "Covers: " + "; ".join(names))


def topic_schema(language: str) -> dict[str, Any]:
    """The JSON schema of an answer about a heading."""
    name, definition = _ROOM[language_code(language)]
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": name},
            "definition": {"type": "string", "minLength": 8, "maxLength": definition},
        },
        "required": ["name", "definition"],
        "additionalProperties": False,
    }


def _question(asker: Asker, topic: Topic, namings: Mapping[int, Naming], language: str) -> Question[Naming]:
    template = prompt_template("induce_topic", language)
    rest = [n for n in sorted(namings) if n not in topic.members]

    def candidates() -> Iterator[str]:
        for own, others, chars in _SHOWN:
            tags = [
                {"name": one_line(namings[n].name), "definition": one_line(namings[n].definition)[:chars]}
                for n in topic.members[:own]
            ]
            yield template.render(tags=tags, others=[one_line(namings[n].name) for n in rest[:others]]).strip()

    def parse(text: str) -> Naming:
        name, definition = checked_name(decode_json(text), language, "induce_topic")
        if name.casefold() in {naming.name.casefold() for naming in namings.values()}:
            raise BadAnswerError("duplicate", "a tag has this name")
        return Naming(name, definition)

    return Question({"groups": list(topic.members)}, fitting(candidates(), asker.profile, _ANSWER_TOKENS), parse)


def ask_topics(
    asker: Asker,
    topics: Sequence[Topic],
    namings: Mapping[int, Naming],
    language: str,
    *,
    most: int,
    progress: StageProgress | None = None,
) -> dict[int, Naming]:
    """Names of headings by place, at most `most` asked, the largest first; what did not count is left out."""
    order = sorted(range(len(topics)), key=lambda place: (-len(topics[place].members), place))[:most]
    questions = [_question(asker, topics[place], namings, language) for place in order]
    answers = asker.ask("topic", questions, topic_schema(language), _ANSWER_TOKENS, progress)
    found: dict[int, Naming] = {}
    taken: set[str] = set()
    for place, answer in zip(order, answers, strict=True):
        if answer.value is None:
            continue
        if answer.value.name.casefold() in taken:
            answer.reject("duplicate: another heading has this name")
            continue
        taken.add(answer.value.name.casefold())
        found[place] = answer.value
    return found
