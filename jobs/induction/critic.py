"""The critic: can held-out messages be tagged by the definitions alone, and which tags cannot be told apart?

Each held-out turn is assigned twice: by the data (a vote of its nearest grouped turns) and by what a colleague would
read (the names and definitions; the LLM chooses among the nearest ones, or without it the nearest embedding does).
Where the two disagree, the definitions do not say what the data found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from jobs.induction.asking import Asker, Question, fitting, prompt_template, shown_text
from jobs.induction.cluster import IntArray
from jobs.induction.features import FloatArray
from jobs.induction.turns import CustomerTurn
from jobs.llm.answers import BadAnswerError, decode_json
from jobs.llm.rendering import one_line
from jobs.student.training import StageProgress
from jobs.taxonomy import Tag, Taxonomy

_VOTERS = 9
_SHORTLIST = 5
_BY_EMBEDDING = "embedding of the definitions"
_ANSWER_TOKENS = 16
_SHOWN_CHARS = (160, 100, 60)
_ENOUGH_ANSWERS = 10
_SAME_PLACE = 0.8
_LEAST_CONFUSED = 2
_LEAST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Confusion:
    """`count` of the `of` held-out turns of two tags were given the other one; ids of the taxonomy."""

    first: str
    second: str
    count: int
    of: int


@dataclass(frozen=True, slots=True)
class Critic:
    """`turns` held-out turns from `conversations`, `agreed` of them assigned alike; `none`: no definition fitted.

    `by` says who read the definitions. `tags`: (id, turns of it by the data, agreed). `confusions`: the pairs that
    cannot be told apart, worst first.
    """

    by: str
    conversations: int
    turns: int
    agreed: int
    none: int
    tags: tuple[tuple[str, int, int], ...]
    confusions: tuple[Confusion, ...]


def described(tag: Tag) -> str:
    """What the definitions say of a tag, as one text to embed."""
    return " ".join([tag.name, tag.definition, *tag.include])


def by_data(known: FloatArray, labels: IntArray, rows: FloatArray) -> IntArray:
    """(m,) labels of new `rows` (m, d): the vote of the nine nearest of the `known` (n, d), by cosine, weighted."""
    centre = known.mean(axis=0, keepdims=True)
    model = KNeighborsClassifier(min(_VOTERS, len(known)), weights="distance").fit(normalize(known - centre), labels)
    return np.asarray(model.predict(normalize(rows - centre)), dtype=np.int64)


def closeness(definitions: FloatArray, rows: FloatArray) -> FloatArray:
    """(m, g) cosines of turns and definitions, each side centred on itself: they are written in different styles."""
    own = normalize(rows - rows.mean(axis=0, keepdims=True)) if len(rows) > 1 else rows
    return np.asarray(own @ normalize(definitions - definitions.mean(axis=0, keepdims=True)).T, dtype=np.float32)


def _schema(most: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0, "maximum": most}
    return {"type": "object", "properties": {"tag": number}, "required": ["tag"], "additionalProperties": False}


def _question(asker: Asker, taxonomy: Taxonomy, turn: CustomerTurn, shortlist: Sequence[int]) -> Question[int]:
    template = prompt_template("induce_assign", taxonomy.language)

    def candidates() -> Iterator[str]:
        for chars in _SHOWN_CHARS:
            tags = [
                {
                    "name": one_line(tag.name),
                    "definition": one_line(tag.definition)[:chars],
                    "include": [one_line(text)[: chars // 2] for text in tag.include],
                    "exclude": [one_line(text)[: chars // 2] for text in tag.exclude],
                }
                for tag in (taxonomy.tags[i] for i in shortlist)
            ]
            yield template.render(tags=tags, text=shown_text(turn.text)).strip()

    def parse(text: str) -> int:
        data = decode_json(text)
        number = data.get("tag") if isinstance(data, dict) else None
        if type(number) is not int or not 0 <= number <= len(shortlist):
            raise BadAnswerError("schema", "expected an object with the number of a tag, or 0")
        return shortlist[number - 1] if number else -1

    about = {"conversation_id": turn.conversation_id, "turn": turn.turn}
    return Question(about, fitting(candidates(), asker.profile, _ANSWER_TOKENS), parse)


def by_llm(
    asker: Asker,
    taxonomy: Taxonomy,
    turns: Sequence[CustomerTurn],
    close: FloatArray,
    data: IntArray,
    *,
    progress: StageProgress | None = None,
) -> list[int | None]:
    """For each turn the place of the tag the LLM chose by definition, -1 for none, None without a valid answer.

    It chooses among the nearest definitions and the one the data chose, in a random order. A model that gives nearly
    always the same number does not read: none of its answers counts.
    """
    mixer = np.random.default_rng(len(turns))
    lists: list[list[int]] = []
    for row, own in zip(close, data, strict=True):
        few = sorted({*np.argsort(-row, kind="stable")[:_SHORTLIST].tolist(), int(own)})
        lists.append([few[i] for i in mixer.permutation(len(few)).tolist()])
    questions = [_question(asker, taxonomy, turn, few) for turn, few in zip(turns, lists, strict=True)]
    answers = asker.ask("critic", questions, _schema(_SHORTLIST + 1), _ANSWER_TOKENS, progress)
    places = Counter(few.index(answer.value) for few, answer in zip(lists, answers, strict=True) if answer.value in few)
    if len(answers) >= _ENOUGH_ANSWERS and max(places.values(), default=0) >= _SAME_PLACE * len(answers):
        for answer in answers:
            answer.reject("nearly always the same number, whatever the question: the answers do not count")
    return [answer.value for answer in answers]


def compare(
    taxonomy: Taxonomy, turns: Sequence[CustomerTurn], data: Sequence[int], read: Sequence[int | None], by: str
) -> Critic:
    """The two assignments of the same turns beside each other; turns that `read` has no answer for are left out.

    A pair cannot be told apart where at least two turns, and one in five of those of the two tags, were given the
    other tag of the pair.
    """
    ids = [tag.id for tag in taxonomy.tags]
    rows = [(t, d, r) for t, d, r in zip(turns, data, read, strict=True) if r is not None]
    total = Counter(d for _, d, _ in rows)
    right = Counter(d for _, d, r in rows if d == r)
    crossed = Counter((min(d, r), max(d, r)) for _, d, r in rows if r >= 0 and d != r)
    confusions = [
        Confusion(ids[a], ids[b], count, total[a] + total[b])
        for (a, b), count in crossed.items()
        if count >= _LEAST_CONFUSED and count >= _LEAST_SHARE * (total[a] + total[b])
    ]
    confusions.sort(key=lambda c: (-c.count, -c.count / c.of, c.first, c.second))
    return Critic(
        by=by,
        conversations=len({turn.conversation_id for turn, _, _ in rows}),
        turns=len(rows),
        agreed=sum(right.values()),
        none=sum(r == -1 for _, _, r in rows),
        tags=tuple((ids[n], total[n], right[n]) for n in sorted(total)),
        confusions=tuple(confusions),
    )


def criticise(
    taxonomy: Taxonomy,
    turns: Sequence[CustomerTurn],
    known: tuple[FloatArray, IntArray],
    embed: Callable[[Sequence[str]], FloatArray],
    *,
    asker: Asker | None,
    most: int,
    progress: StageProgress | None = None,
) -> Critic | None:
    """Assign held-out `turns` by the data and by the definitions; None where there are none.

    `known`: embeddings (n, d) and group numbers (n,) of the turns that made the tags; numbers beyond the tags are small
    talk, and held-out turns that fall there are left out. With an `asker` at most `most` turns are read, evenly chosen.
    """
    if not turns or not most:
        return None
    rows = embed([turn.core for turn in turns])
    data = by_data(*known, rows)
    about = np.flatnonzero(data < len(taxonomy.tags))
    if not len(about):
        return None
    close = closeness(embed([described(tag) for tag in taxonomy.tags]), rows[about])
    shown, own = [turns[i] for i in about.tolist()], data[about]
    nearest = close.argmax(axis=1).tolist()
    if asker is None:
        return compare(taxonomy, shown, own.tolist(), nearest, _BY_EMBEDDING)
    few = np.unique(np.linspace(0, len(shown) - 1, min(most, len(shown))).round().astype(int)).tolist()
    read = by_llm(asker, taxonomy, [shown[i] for i in few], close[few], own[few], progress=progress)
    if all(value is None for value in read):
        by = f"{_BY_EMBEDDING}, for no answer of the LLM counted"
        return compare(taxonomy, shown, own.tolist(), nearest, by)
    return compare(taxonomy, [shown[i] for i in few], own[few].tolist(), read, f"LLM {asker.profile.served_model_name}")


def critic_yaml(critic: Critic, taxonomy: Taxonomy) -> str:
    """The critic's findings as YAML for people: names beside ids, worst pairs first."""
    names = {tag.id: tag.name for tag in taxonomy.tags}
    data: dict[str, Any] = {
        "read_by": critic.by,
        "held_out": {"conversations": critic.conversations, "turns": critic.turns},
        "agreed": critic.agreed,
        "no_definition_fitted": critic.none,
        "cannot_be_told_apart": [
            {"tags": [c.first, c.second], "names": [names[c.first], names[c.second]], "turns": c.count, "of": c.of}
            for c in critic.confusions
        ],
        "tags": [
            {"id": tag, "name": names[tag], "turns": turns, "agreed": agreed} for tag, turns, agreed in critic.tags
        ],
    }
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=110)


def critic_line(critic: Critic) -> str:
    """The findings in a line without chat text."""
    return (
        f"critic ({critic.by}): {critic.agreed} of {critic.turns} held-out turns are tagged alike by the definitions; "
        f"{len(critic.confusions)} pairs of tags cannot be told apart"
    )
