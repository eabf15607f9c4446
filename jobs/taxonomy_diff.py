"""What changed between two taxonomies, in words an analyst reads before approving.

Between versions of one taxonomy tags are matched by id. A proposed taxonomy comes with ids of its own, so each of its
tags is compared with the approved ones by what they say (definition, include, examples), ranked by embedding and by
shared characters; the two must agree before a tag counts as known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from jobs.taxonomy import Tag, Taxonomy

FloatArray = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], FloatArray]

_NEW_BELOW = 0.12


@dataclass(frozen=True, slots=True)
class Renamed:
    """Same tag, another name: nothing is labelled again."""

    id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Redefined:
    """Same tag, other rules: it alone is labelled again. `changes` are sentences."""

    id: str
    name: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A new tag beside the closest old one. `similarity` is 0..1; `looks_new`: no old tag says nearly the same."""

    id: str
    name: str
    nearest_id: str
    nearest_name: str
    similarity: float
    looks_new: bool


@dataclass(frozen=True, slots=True)
class TaxonomyDiff:
    """`added` and `removed` hold ids; `matches` has one entry for each added tag where anything was removed or kept."""

    before: Taxonomy
    after: Taxonomy
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[Renamed, ...]
    redefined: tuple[Redefined, ...]
    matches: tuple[Match, ...]

    @property
    def relabel(self) -> tuple[str, ...]:
        """Ids that must be labelled anew once `after` is in force."""
        return tuple(sorted({*self.added, *(entry.id for entry in self.redefined)}))

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Ids of `before` that are gone and that no tag of `after` comes close to."""
        near = {match.nearest_id for match in self.matches if not match.looks_new}
        return tuple(tag_id for tag_id in self.removed if tag_id not in near)


def _active(taxonomy: Taxonomy) -> dict[str, Tag]:
    return {tag.id: tag for tag in taxonomy.tags if tag.status != "deprecated"}


def _changes(before: Tag, after: Tag) -> tuple[str, ...]:
    found: list[str] = []
    if before.definition != after.definition:
        found.append(f"definition was “{before.definition}”, is “{after.definition}”")
    for what in ("include", "exclude"):
        old, new = getattr(before, what), getattr(after, what)
        found += [f"{what} gains “{text}”" for text in new if text not in old]
        found += [f"{what} loses “{text}”" for text in old if text not in new]
        if old != new and set(old) == set(new):
            found.append(f"{what} is in another order")
    return tuple(found)


def _says(tag: Tag) -> str:
    return "\n".join([tag.name, tag.definition, *tag.include, *(example.text for example in tag.examples[:5])])


def similarities(new: Sequence[Tag], old: Sequence[Tag], embed: Embed | None = None) -> FloatArray:
    """(new, old) in 0..1: cosine of character 1-3-gram TF-IDF over all tags, averaged with that of embeddings.

    Embeddings are centred over all tags first, as e5's cosines are squeezed together; below zero counts as zero.
    """
    texts = [_says(tag) for tag in [*new, *old]]
    table = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True).fit_transform(texts)
    cosines = np.asarray((table[: len(new)] @ table[len(new) :].T).todense(), dtype=np.float32)
    if embed is not None and len(texts) > 2:
        vectors = embed(texts)
        unit = normalize(vectors - vectors.mean(axis=0, keepdims=True))
        cosines = (cosines + np.maximum(unit[: len(new)] @ unit[len(new) :].T, 0.0)) / 2
    return np.clip(cosines, 0.0, 1.0)


def _matches(new: Sequence[Tag], old: Sequence[Tag], embed: Embed | None) -> tuple[Match, ...]:
    if not new or not old:
        return ()
    table = similarities(new, old, embed)
    found: list[Match] = []
    for row, tag in enumerate(new):
        column = int(np.argmax(table[row]))
        # absolute cosines mean little: a known tag must also stand out from the other old ones
        stands_out = float(table[row, column] - np.median(table[row])) if len(old) > 2 else float(table[row, column])
        close = float(table[row, column])
        looks_new = close < _NEW_BELOW or stands_out < _NEW_BELOW / 2
        found.append(Match(tag.id, tag.name, old[column].id, old[column].name, round(close, 3), looks_new))
    return tuple(found)


def diff_taxonomies(before: Taxonomy, after: Taxonomy, embed: Embed | None = None) -> TaxonomyDiff:
    """Compare `after` with `before`, leaving deprecated tags out. `embed`: texts to (n, d) unit rows, to match better.

    Ids decide what is the same tag; each tag with a new id is matched to the closest of `before` by what it says.
    """
    old, new = _active(before), _active(after)
    both = [tag_id for tag_id in new if tag_id in old]
    added = [tag_id for tag_id in new if tag_id not in old]
    return TaxonomyDiff(
        before,
        after,
        tuple(added),
        tuple(tag_id for tag_id in old if tag_id not in new),
        tuple(Renamed(i, old[i].name, new[i].name) for i in both if old[i].name != new[i].name),
        tuple(
            Redefined(i, new[i].name, _changes(old[i], new[i]))
            for i in both
            if old[i].definition_hash != new[i].definition_hash
        ),
        _matches([new[i] for i in added], list(old.values()), embed),
    )


def _list(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title} ({len(lines)})", "", *(f"- {line}" for line in lines), ""] if lines else []


def _one_line(text: str) -> str:
    """Text from taxonomy files and chats as part of a Markdown line: no line breaks, no markup of its own."""
    flat = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        flat = flat.replace(mark, "\\" + mark)
    return flat


def diff_markdown(diff: TaxonomyDiff) -> str:
    """The diff as Markdown for an analyst: what is added, gone, renamed, redefined, and what must be labelled again."""
    before, after = diff.before, diff.after
    old, new = _active(before), _active(after)
    matches = {match.id: match for match in diff.matches}
    fresh: list[str] = []
    known: list[str] = []
    for tag_id in diff.added:
        tag, match = new[tag_id], matches.get(tag_id)
        line = f"**{_one_line(tag.name)}** (`{tag_id}`): {_one_line(tag.definition)}"
        nearest = f" — nearest: {_one_line(match.nearest_name)} (`{match.nearest_id}`)" if match else ""
        score = f", similarity {match.similarity:.2f}" if match else ""
        (fresh if match is None or match.looks_new else known).append(line + nearest + score)
    gone = [
        f"**{_one_line(old[i].name)}** (`{i}`)" + (": nothing close in the new one" if i in diff.uncovered else "")
        for i in diff.removed
    ]
    heads = [f"{_one_line(t.name)} version {t.version} ({t.status}, {len(_active(t))} tags)" for t in (before, after)]
    lines = [f"# {heads[1]} against {heads[0]}", ""]
    lines += _list("Added, looks new", fresh)
    lines += _list("Added, close to a tag that exists", known)
    lines += _list("Removed", gone)
    lines += _list("Renamed", [f"`{r.id}`: {_one_line(r.before)} → {_one_line(r.after)}" for r in diff.renamed])
    lines += _list(
        "Redefined",
        [f"**{_one_line(r.name)}** (`{r.id}`): " + "; ".join(_one_line(c) for c in r.changes) for r in diff.redefined],
    )
    if len(lines) == 2:
        lines += ["Nothing has changed that a labeller or a reader would notice.", ""]
    if diff.relabel:
        lines += [f"To be labelled again once approved: {len(diff.relabel)} of {len(new)} tags.", ""]
    return "\n".join(lines)
