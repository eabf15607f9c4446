"""From conversations to a proposed taxonomy and a tag for every customer turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.induction.asking import Asker
from jobs.induction.cluster import Grouping, group_turns
from jobs.induction.critic import Critic, criticise
from jobs.induction.features import views, with_neighbours
from jobs.induction.groups import Topic, centres_of
from jobs.induction.hierarchy import ask_topics, keyword_topic, leads_of, topic_tree
from jobs.induction.proposal import NO_INTENT, Naming, build_taxonomy, fallback_namings
from jobs.induction.revise import Draft, Material, name_and_revise
from jobs.induction.seen import Seen, see, spread
from jobs.induction.turns import CustomerTurn, customer_turns
from jobs.induction.wishes import prompt_examples
from jobs.induction.words import HAN
from jobs.settings import InduceSettings
from jobs.student.embed import Embedder
from jobs.student.training import StageProgress
from jobs.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Assignment:
    """`tag` is an id of the taxonomy, or `none` for a turn without a wish. `confidence` in 0..1 ranks, no more."""

    conversation_id: str
    turn: int
    tag: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Induced:
    """A proposed taxonomy, one assignment a customer turn in order of the input, and how it came about.

    `steps` is the record of what the LLM was asked, `critic` what held-out conversations say of the definitions,
    `named_by_llm` how many tags the LLM named, `named_by_wish` how many bear what the LLM says their turns want.
    """

    taxonomy: Taxonomy
    assignments: tuple[Assignment, ...]
    steps: tuple[dict[str, Any], ...] = ()
    critic: Critic | None = None
    named_by_llm: int = 0
    named_by_wish: int = 0


def main_language(turns: Sequence[CustomerTurn]) -> str:
    """`zh` where at least half of the turns hold Chinese characters, else `en`."""
    chinese = sum(bool(HAN.search(turn.text)) for turn in turns)
    return "zh" if 2 * chinese >= len(turns) else "en"


def _headings(
    draft: Draft,
    material: Material,
    namings: Mapping[int, Naming],
    *,
    asker: Asker | None,
    most: int,
    progress: StageProgress | None,
) -> list[tuple[Topic, Naming]]:
    """Headings over the tags with their names, by the LLM where there is one and its name counts."""
    labels = draft.grouping.labels
    topics = topic_tree(centres_of(labels, material.sentences)[1][: draft.wishes])
    given = ask_topics(asker, topics, namings, material.language, most=most, progress=progress) if asker else {}
    found: list[tuple[Topic, Naming]] = []
    for place, topic in enumerate(topics):
        members = [draft.groups[number] for number in topic.members]
        names = [namings[group.number].name for group in members]
        leads = leads_of(members, names)
        found.append((topic, given.get(place) or keyword_topic(leads, names, material.language)))
    return found


def _assignments(
    turns: Sequence[CustomerTurn], rows: Sequence[int], grouping: Grouping, taxonomy: Taxonomy
) -> tuple[Assignment, ...]:
    """One for each turn; `rows` are the places of those that were grouped. Small talk is `none` like empty turns."""
    tags, confidence = [NO_INTENT] * len(turns), [1.0] * len(turns)
    for row, label, sure in zip(rows, grouping.labels.tolist(), grouping.confidence.tolist(), strict=True):
        if label < len(taxonomy.tags):
            tags[row], confidence[row] = taxonomy.tags[label].id, round(sure, 4)
    return tuple(
        Assignment(turn.conversation_id, turn.turn, tag, sure)
        for turn, tag, sure in zip(turns, tags, confidence, strict=True)
    )


def _drafted(
    turns: Sequence[CustomerTurn],
    *,
    whole_chats: bool,
    seed: int,
    embedder: Embedder,
    asker: Asker | None,
    bounds: InduceSettings,
    language: str,
    progress: StageProgress | None,
) -> tuple[Seen, Material, Draft]:
    """The turns as they were seen, what the groups are made of, and the groups with the names by the LLM."""

    def say(text: str) -> None:
        if progress:
            progress(text, 0, 1)

    wishing = asker if bounds.wishes else None
    seen = see(turns, seed, embedder, asker=wishing, language=language, progress=progress)
    chats = [turn.conversation_id for turn in seen.turns]
    mixed = [with_neighbours(part, chats) for part in (seen.sentences, seen.words)]
    voting = views(mixed[0], mixed[1], seed)
    grouping = group_turns(voting, seed, say, count_groups=embedder.counts_groups)
    material = Material(seen.turns, seen.sentences, voting[1], language)
    draft = name_and_revise(material, grouping, asker, bounds, whole_chats=whole_chats, progress=progress)
    return seen, material, draft


def induce(
    conversations: Sequence[Conversation],
    *,
    seed: int,
    embedder: Embedder,
    asker: Asker | None = None,
    bounds: InduceSettings | None = None,
    held_out: Sequence[Conversation] = (),
    language: str | None = None,
    name: str = "induced",
    progress: StageProgress | None = None,
) -> Induced:
    """Induce tags from what customers say; labels in the conversations are never looked at.

    The same conversations and seed give the same groups, however many cores the machine has. `asker` None means names
    by keywords; `language` None means the main one of the turns. Turns without a wish are assigned `none` where the
    input holds whole chats. `held_out` conversations make no tag; the critic tries the definitions on them.

    Raises:
        InputError: no conversation has a customer turn.
        ServerError: there is an asker and its server answers nothing.
    """
    turns = customer_turns(conversations)
    if not turns:
        raise InputError("no conversation has a turn whose speaker is `customer`: there is nothing to induce tags from")
    bounds = bounds or InduceSettings()
    rows = [i for i, turn in enumerate(turns) if turn.carries]
    carrying = [turns[i] for i in rows]
    language = language or main_language(carrying)
    # Sums of two threads differ in their last bits from those of one, and UMAP makes other groups of that.
    with threadpool_limits(limits=1):
        seen, material, draft = _drafted(
            carrying,
            whole_chats=len(rows) < len(turns),
            seed=seed,
            embedder=embedder,
            asker=asker,
            bounds=bounds,
            language=language,
            progress=progress,
        )
        grouped = spread(draft.grouping, seen.voters, seen.features, seed)
    reader = asker if draft.trusted else None
    counts = np.bincount(grouped.labels, minlength=len(draft.groups)).tolist()
    groups = [replace(group, size=counts[group.number]) for group in draft.groups[: draft.wishes]]
    others = fallback_namings(groups, draft.namings, language, prompt_examples(language))
    namings = others | draft.namings
    by_wish = sum(others[g.number].name in dict(g.wishes) for g in groups if g.number in others)
    headings = _headings(draft, material, namings, asker=reader, most=bounds.topics, progress=progress)
    taxonomy = build_taxonomy(groups, namings, headings, name=name, language=language)
    critic = criticise(
        taxonomy,
        [turn for turn in customer_turns(held_out) if turn.carries],
        (seen.plain, draft.grouping.labels),
        embedder.embed,
        asker=reader,
        most=bounds.critic_turns,
        progress=progress,
    )
    steps = tuple(asker.steps) if asker else ()
    return Induced(taxonomy, _assignments(turns, rows, grouped, taxonomy), steps, critic, len(draft.namings), by_wish)
