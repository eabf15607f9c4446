"""Names for groups, and groups that change because of their names: merged, split, or found to be small talk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jobs.induction.asking import Asker
from jobs.induction.cluster import Grouping, IntArray
from jobs.induction.features import FloatArray
from jobs.induction.groups import Group, describe
from jobs.induction.judge import names_of_halves, one_wish
from jobs.induction.naming import ask_names, name_groups, settle_duplicates
from jobs.induction.proposal import Naming
from jobs.induction.refine import far_pairs, joined, near_pairs, split_candidates
from jobs.induction.smalltalk import is_small_talk
from jobs.induction.turns import CustomerTurn
from jobs.settings import InduceSettings
from jobs.student.training import StageProgress


@dataclass(frozen=True, slots=True)
class Material:
    """n grouped turns with their embeddings and classifier features, each (n, d)."""

    turns: Sequence[CustomerTurn]
    sentences: FloatArray
    features: FloatArray
    language: str


@dataclass(frozen=True, slots=True)
class Draft:
    """Groups after revision. The first `wishes` of `groups` become tags, the rest is small talk.

    `namings` holds the names that the LLM gave and that counted. `trusted`: the model named at least half of the groups
    well and saw that the control pairs are two wishes, so it may be asked for more.
    """

    grouping: Grouping
    groups: list[Group]
    wishes: int
    namings: dict[int, Naming]
    trusted: bool


def small_talk(turns: Sequence[CustomerTurn], labels: IntArray) -> frozenset[int]:
    """Groups that are no wish, by number; none where nothing else would be left, or where every turn was chosen."""
    groups = range(int(labels.max()) + 1)
    found = {g for g in groups if is_small_talk([turns[i].core for i in np.flatnonzero(labels == g).tolist()])}
    return frozenset(found) if len(found) < len(groups) else frozenset()


def _renumbered(labels: IntArray, last: frozenset[int]) -> dict[int, int]:
    """Old number to new: by falling size, those of `last` after all others."""
    ids, sizes = np.unique(labels, return_counts=True)
    order = sorted(zip(ids.tolist(), sizes.tolist(), strict=True), key=lambda e: (e[0] in last, -e[1], e[0]))
    return {old: new for new, (old, _) in enumerate(order)}


def _draft(
    material: Material, grouping: Grouping, labels: IntArray, talk: frozenset[int], namings: dict[int, Naming]
) -> tuple[Draft, dict[int, int]]:
    number = _renumbered(labels, talk)
    moved = Grouping(np.array([number[int(label)] for label in labels], dtype=np.int64), grouping.confidence)
    groups = describe(material.turns, moved, material.sentences)
    wishes = sum(old not in talk for old in number)
    named = {number[old]: naming for old, naming in namings.items() if old in number}
    return Draft(moved, groups, wishes, named, trusted=False), number


def _split(
    material: Material,
    grouping: Grouping,
    labels: IntArray,
    *,
    asker: Asker,
    candidates: dict[int, np.ndarray[tuple[int], np.dtype[np.bool_]]],
    progress: StageProgress | None,
) -> dict[int, Naming]:
    """Change `labels` where both halves of a candidate get names that differ; returns the names of all halves."""
    tried = labels.copy()
    fresh: dict[int, int] = {}
    for number, second in candidates.items():
        fresh[number] = int(tried.max()) + 1
        tried[second] = fresh[number]
    described = describe(material.turns, Grouping(tried, grouping.confidence), material.sentences)
    halves = [(described[number], described[new]) for number, new in fresh.items()]
    found: dict[int, Naming] = {}
    for (number, new), pair in zip(
        fresh.items(), names_of_halves(asker, halves, material.language, progress), strict=True
    ):
        if pair is not None:
            labels[tried == new] = new
            found[number], found[new] = pair
    return found


def name_and_revise(
    material: Material,
    grouping: Grouping,
    asker: Asker | None,
    bounds: InduceSettings,
    *,
    whole_chats: bool,
    seed: int,
    progress: StageProgress | None = None,
) -> Draft:
    """Name the groups, merge those that the LLM calls one wish, split those that get two names; every turn stays.

    Small talk is looked for in `whole_chats` only: elsewhere somebody has chosen the turns. Without an LLM, or with
    one that cannot name half of the groups, the groups stay as the data made them.
    """
    talk = small_talk(material.turns, grouping.labels) if whole_chats else frozenset[int]()
    if asker is None:
        return _draft(material, grouping, grouping.labels, talk, {})[0]
    groups = describe(material.turns, grouping, material.sentences)
    wishes = [group for group in groups if group.number not in talk]
    namings = name_groups(asker, wishes, groups, material.language, progress)
    if 2 * len(namings) < len(wishes) or grouping.affinity is None:
        kept = settle_duplicates(namings, asker)
        return _draft(material, grouping, grouping.labels, talk, kept)[0]
    named = sorted(namings)
    pairs = near_pairs(grouping.affinity, named, namings, bounds.pairs)
    controls = far_pairs(grouping.affinity, named, pairs) if pairs else []
    same, sound = one_wish(asker, [*pairs, *controls], groups, namings, language=material.language, progress=progress)
    if not sound:
        kept = settle_duplicates(namings, asker)
        return _draft(material, grouping, grouping.labels, talk, kept)[0]
    into = joined(same)
    labels = grouping.labels.copy()
    whole = {*talk, *into, *into.values()}
    candidates = split_candidates(labels, material.features, seed, bounds.splits, whole)
    namings |= _split(material, grouping, labels, asker=asker, candidates=candidates, progress=progress)
    for number, target in into.items():
        labels[labels == number] = target
        namings.pop(number)
    draft, moved = _draft(material, grouping, labels, talk, namings)
    merged = [draft.groups[moved[target]] for target in sorted(set(into.values()))]
    for group, answer in zip(merged, ask_names(asker, merged, draft.groups, material.language, progress), strict=True):
        if answer.value is not None:
            draft.namings[group.number] = answer.value
    return replace(draft, namings=settle_duplicates(draft.namings, asker), trusted=True)
