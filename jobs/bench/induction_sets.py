"""Development sets of induction, drawn from public labelled conversations: one customer turn, one gold tag.

`config/induction-sets.yaml` says which; the same file, data and seeds draw the same sets.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from jobs.conversation import CUSTOMER, iter_records
from jobs.errors import InputError
from jobs.evaluation.evaluate_induction import gold_by_turn
from jobs.settings import PROJECT

SETS = PROJECT / "config" / "induction-sets.yaml"

_Turn = dict[str, Any]
_Drawn = dict[str, list[tuple[str, str]]]
"""Gold tag → (id, text) of its turns."""


class InductionSet(BaseModel):
    """How one set is drawn; `config/induction-sets.yaml` explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    gold: Literal["turns", "combination", "request", "intent"]
    tags: list[str] | Annotated[int, Field(gt=1)] | None = None
    fewest: Annotated[int, Field(gt=0)] = 1
    sizes: tuple[Annotated[int, Field(gt=0)], int] | None = None
    turns: Annotated[int, Field(gt=0)] | None = None
    seed: int = 0
    no_tag: list[str] = Field(default_factory=list)
    half: Literal["a", "b"] | None = None


def load_sets(page: Path = SETS) -> dict[str, InductionSet]:
    """The sets by name.

    Raises:
        InputError: the page cannot be read, or a field does not fit.
    """
    try:
        return TypeAdapter(dict[str, InductionSet]).validate_python(yaml.safe_load(page.read_text("utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{page}: {error}") from error


def _own(turn: _Turn, labels: Sequence[str]) -> list[str]:
    """The first label of the turn, as DSTC11 scores it."""
    return list(labels[:1])


def _combination(turn: _Turn, labels: Sequence[str]) -> list[str]:
    return ["+".join(sorted(labels))] if labels else []


def _request(turn: _Turn, labels: Sequence[str]) -> list[str]:
    """Domain and slot of a request, where the turn makes a single one (CrossWOZ)."""
    acts = {f"{domain}-{slot}" for act, domain, slot in turn.get("acts") or () if act == "Request"}
    return list(acts) if len(acts) == 1 else []


def _intent(turn: _Turn, labels: Sequence[str]) -> list[str]:
    """The intent without its service, where the turn states a single one (SGD)."""
    intents = {intent.split(".")[-1] for intent in turn.get("active_intents") or ()}
    return list(intents) if "INFORM_INTENT" in (turn.get("acts") or ()) and len(intents) == 1 else []


_GOLD: dict[str, Callable[[_Turn, Sequence[str]], list[str]]] = {
    "turns": _own,
    "combination": _combination,
    "request": _request,
    "intent": _intent,
}


def _labelled(path: Path, gold: Callable[[_Turn, Sequence[str]], list[str]]) -> Iterator[tuple[str, str, str]]:
    """(id, text, tag) of every customer turn that has a gold tag."""
    for record, chat in iter_records(path):
        labels = gold_by_turn([chat])
        for number, text in chat.customer_turns:
            for tag in gold(record["turns"][number], labels.get((chat.conversation_id, number), ())):
                yield f"{chat.conversation_id}/{number}", text, tag


def turns_by_tag(rule: InductionSet, data: Path) -> dict[str, list[str]]:
    """Gold tag → texts of all its turns in the set's file, whatever the rule draws of them; without `no_tag`."""
    found: dict[str, list[str]] = defaultdict(list)
    for _, text, tag in _labelled(data / rule.file, _GOLD[rule.gold]):
        if tag not in rule.no_tag:
            found[tag].append(text)
    return found


def _draw(rule: InductionSet, found: _Drawn) -> _Drawn:
    rng = np.random.default_rng(rule.seed)
    names = sorted(tag for tag, turns in found.items() if len(turns) >= rule.fewest)
    if isinstance(rule.tags, int):
        names = sorted(rng.choice(names, min(rule.tags, len(names)), replace=False).tolist())
    elif rule.tags is not None:
        missing = sorted(set(rule.tags) - set(names))
        if missing:
            raise InputError(f"{rule.file} has no turns with the tags {', '.join(missing)}")
        names = sorted(rule.tags)
    drawn = {name: found[name] for name in names}
    if rule.sizes is not None:
        low, high = np.log(rule.sizes)
        for name in names:
            size = round(float(np.exp(rng.uniform(low, high))))
            rows = np.sort(rng.permutation(len(found[name]))[:size])
            drawn[name] = [found[name][row] for row in rows.tolist()]
    total = sum(map(len, drawn.values()))
    if rule.turns is not None and rule.turns < total:
        flat = [(name, turn) for name in names for turn in drawn[name]]
        drawn = defaultdict(list)
        for row in np.sort(rng.choice(total, rule.turns, replace=False)).tolist():
            drawn[flat[row][0]].append(flat[row][1])
    return drawn


def draw_set(name: str, rule: InductionSet, data: Path, out: Path) -> Path:
    """Write `out`/`name`.jsonl: one conversation of one turn a line, tags mixed by the rule's seed.

    Raises:
        InputError: the file is not there, has a bad line, or lacks a tag that the rule names.
    """
    found: _Drawn = defaultdict(list)
    for identifier, text, tag in _labelled(data / rule.file, _GOLD[rule.gold]):
        found[tag].append((identifier, text))
    drawn = _draw(rule, found)
    rows = [(identifier, text, tag) for tag in sorted(drawn) for identifier, text in drawn[tag]]
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.jsonl"
    # What UTF-8 cannot hold, half of an emoji, is written as the escape that JSON has for it.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as lines:
        for row in np.random.default_rng(rule.seed).permutation(len(rows)).tolist():
            identifier, text, tag = rows[row]
            turns = [{"speaker": CUSTOMER, "text": text}]
            record = {"conversation_id": identifier, "turns": turns, "turn_labels": [[tag]]}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path
