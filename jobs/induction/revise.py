"""Names for groups, and groups that change because of what a judge says: cut fine and put together, or small talk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jobs.induction.asking import Asker
from jobs.induction.cluster import Grouping, IntArray
from jobs.induction.features import FloatArray
from jobs.induction.groups import Group, describe
from jobs.induction.judge import is_sound, verdicts_of
from jobs.induction.naming import ask_names, name_groups, settle_duplicates
from jobs.induction.proposal import Naming
from jobs.induction.refine import TWIN, Pair, far_pairs, joined, near_pairs
from jobs.induction.smalltalk import is_small_talk
from jobs.induction.turns import CustomerTurn
from jobs.settings import InduceSettings
from jobs.student.training import StageProgress

_TWINS = 6
_LEAST_HALF = 5


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
    well and, unless judging is left out, judged the control pairs right, so it may be asked for more.
    """

    grouping: Grouping
    groups: list[Group]
    wishes: int
    namings: dict[int, Naming]
    trusted: bool


def small_talk(turns: Sequence[CustomerTurn], labels: IntArray) -> frozenset[int]:
    """Groups that are no wish, by number; none where nothing else would be left, or where every turn was chosen.

    A turn in which an LLM saw no wish counts as one that says nothing.
    """
    groups = range(int(labels.max()) + 1)
    said = ["" if turn.wish == "" else turn.core for turn in turns]
    found = {g for g in groups if is_small_talk([said[i] for i in np.flatnonzero(labels == g).tolist()])}
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


def _twins(
    material: Material, fine: Grouping, asker: Asker, progress: StageProgress | None
) -> list[tuple[tuple[Group, Naming], tuple[Group, Naming]]]:
    """Halves of a few fine groups, every other turn each, under names of their own; without those that got none.

    The groups that the votes hold together most are taken. Each half is named beside the whole group's neighbours, so
    that the judge sees what it will see of two groups that are one wish.
    """
    if fine.affinity is None:
        return []
    whole = describe(material.turns, fine, material.sentences)
    large = [group.number for group in whole if group.size >= 2 * _LEAST_HALF]
    tightness = fine.affinity.diagonal()
    chosen = sorted(large, key=lambda number: (-float(tightness[number]), number))[:_TWINS]
    tried = fine.labels.copy()
    for place, number in enumerate(chosen):
        tried[np.flatnonzero(fine.labels == number)[1::2]] = len(whole) + place
    parts = describe(material.turns, Grouping(tried, fine.confidence), material.sentences)
    halves = [
        replace(parts[half], neighbours=whole[number].neighbours)
        for place, number in enumerate(chosen)
        for half in (number, len(whole) + place)
    ]
    answers = ask_names(asker, halves, parts, material.language, progress)
    for answer in answers:
        answer.step["step"] = TWIN
    named = [(half, answer.value) for half, answer in zip(halves, answers, strict=True)]
    return [
        ((first, a), (second, b))
        for (first, a), (second, b) in zip(named[::2], named[1::2], strict=True)
        if a is not None and b is not None
    ]


def _sound(
    material: Material,
    grouping: Grouping,
    groups: Sequence[Group],
    namings: dict[int, Naming],
    *,
    asker: Asker,
    progress: StageProgress | None,
) -> bool:
    """Whether the model can judge: tried on groups that nobody confuses and on halves of groups."""
    if grouping.affinity is None:
        return False
    shown, named, twins = list(groups), dict(namings), list[Pair]()
    for pair in _twins(material, grouping.fine or grouping, asker, progress):
        twins.append(Pair(len(shown), len(shown) + 1, 1.0, TWIN))
        for half, naming in pair:
            named[len(shown)] = naming
            shown.append(half)
    controls = [*far_pairs(grouping.affinity, sorted(namings), namings), *twins]
    return is_sound(asker, controls, shown, named, language=material.language, progress=progress)


def _judged(
    material: Material,
    grouping: Grouping,
    fine: Grouping,
    talk: frozenset[int],
    asker: Asker,
    *,
    most: int,
    progress: StageProgress | None,
) -> Draft | None:
    """The fine groups put together as the judge says; None where the model cannot name half of them.

    What the judge said nothing about, for want of a name or of an answer, is decided by the coarser cut: two groups
    that lie in one group of it belong together.
    """
    groups = describe(material.turns, fine, material.sentences)
    wishes = [group for group in groups if group.number not in talk]
    namings = name_groups(asker, wishes, groups, material.language, progress)
    if 2 * len(namings) < len(wishes) or fine.affinity is None:
        return None
    pairs = near_pairs(fine.affinity, sorted(namings), namings, most)
    verdicts = verdicts_of(asker, pairs, groups, namings, language=material.language, progress=progress)
    home = [int(np.bincount(grouping.labels[fine.labels == group.number]).argmax()) for group in groups]
    asked = {(pair.first, pair.second) for pair in pairs}
    numbers = [group.number for group in wishes]
    for place, a in enumerate(numbers):
        for b in numbers[place + 1 :]:
            if (a, b) not in verdicts and ((a, b) in asked or not {a, b} <= namings.keys()):
                verdicts[a, b] = home[a] == home[b]
    into = joined(len(groups), verdicts)
    labels = np.array([into.get(int(label), int(label)) for label in fine.labels], dtype=np.int64)
    kept = {number: naming for number, naming in namings.items() if number not in into}
    draft, moved = _draft(material, fine, labels, talk, kept)
    merged = [draft.groups[moved[target]] for target in sorted(set(into.values()))]
    for group, answer in zip(merged, ask_names(asker, merged, draft.groups, material.language, progress), strict=True):
        if answer.value is not None:
            draft.namings[group.number] = answer.value
    return replace(draft, namings=settle_duplicates(draft.namings, asker), trusted=True)


def name_and_revise(
    material: Material,
    grouping: Grouping,
    asker: Asker | None,
    bounds: InduceSettings,
    *,
    whole_chats: bool,
    progress: StageProgress | None = None,
) -> Draft:
    """Name the groups; with a judge that is sound, start from the fine ones and put together what it calls one wish.

    Every turn stays. Small talk is looked for in `whole_chats` only: elsewhere somebody has chosen the turns. Without
    an LLM, or with one that cannot name half of the groups or judge the controls, the groups stay as the data made
    them.
    """

    def idle(labels: IntArray) -> frozenset[int]:
        return small_talk(material.turns, labels) if whole_chats else frozenset()

    talk = idle(grouping.labels)
    if asker is None:
        return _draft(material, grouping, grouping.labels, talk, {})[0]
    groups = describe(material.turns, grouping, material.sentences)
    wishes = [group for group in groups if group.number not in talk]
    namings = name_groups(asker, wishes, groups, material.language, progress)
    able = 2 * len(namings) >= len(wishes)
    if able and bounds.pairs and _sound(material, grouping, groups, namings, asker=asker, progress=progress):
        fine = grouping.fine or grouping
        draft = _judged(material, grouping, fine, idle(fine.labels), asker, most=bounds.pairs, progress=progress)
        if draft is not None:
            return draft
    draft = _draft(material, grouping, grouping.labels, talk, settle_duplicates(namings, asker))[0]
    return replace(draft, trusted=able and not bounds.pairs)
