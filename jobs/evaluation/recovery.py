"""`recovery`: which tags of a reference an induced taxonomy found, missed or invented, on labelled turns.

One to one by the Hungarian method, and many to one as in DSTC11 track 2 (see `induction_metrics`), where each induced
tag stands for the reference tag that most of its turns carry. Turns put aside as small talk are in no induced tag.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.optimize import linear_sum_assignment

from jobs.conversation import read_conversations
from jobs.errors import InputError
from jobs.evaluation.evaluate_induction import ASSIGNMENTS, RECOVERY, TAXONOMY, gold_by_turn
from jobs.evaluation.induction_metrics import overlap
from jobs.induction.assignments import read_assignments
from jobs.induction.proposal import NO_INTENT
from jobs.taxonomy import Taxonomy, load_taxonomy

FIGURES, PAGE = RECOVERY
FOUND_F1, PARTLY_F1 = 0.5, 0.25
"""A reference tag counts as found, or as partly found, where its partner's F1 over turns is at least this."""
OWN_SHARE = 0.5
"""An induced tag of whose labelled turns no reference tag holds this share is invented."""

_TEMPLATES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Recovered:
    """A reference tag, its turns, its one-to-one partner (None: none left) and how well that one covers it."""

    reference: str
    turns: int
    induced: str | None
    precision: float
    recall: float
    f1: float
    status: str


@dataclass(frozen=True, slots=True)
class StandsFor:
    """An induced tag, its labelled turns, and the reference tag that most of them carry."""

    induced: str
    turns: int
    reference: str
    share: float
    invented: bool


def recover(found: Sequence[str], gold: Sequence[str]) -> tuple[list[Recovered], list[StandsFor]]:
    """Both mappings of parallel lists of tags (one entry a labelled turn), the largest tags first.

    A turn that is `none` in `found` counts among the turns of its reference tag and partners nothing.
    """
    table = overlap(found, gold)
    rows, columns = sorted(set(found) - {NO_INTENT}), sorted(set(gold))
    partners = dict(
        zip(*(part.tolist() for part in reversed(linear_sum_assignment(table, maximize=True))), strict=True)
    )
    of_rows, of_columns = table.sum(axis=1), Counter(gold)
    recovered = []
    for column, reference in enumerate(columns):
        row = partners.get(column)
        both = 0 if row is None else int(table[row, column])
        precision = both / int(of_rows[row]) if row is not None else 0.0
        recall = both / of_columns[reference]
        f1 = 2 * precision * recall / (precision + recall) if both else 0.0
        status = "found" if f1 >= FOUND_F1 else "partly" if f1 >= PARTLY_F1 else "missed"
        induced = rows[row] if both and row is not None else None
        recovered.append(Recovered(reference, of_columns[reference], induced, precision, recall, f1, status))
    stands = []
    for row, induced_tag in enumerate(rows):
        best = int(np.argmax(table[row]))
        share = float(table[row, best] / of_rows[row])
        stands.append(StandsFor(induced_tag, int(of_rows[row]), columns[best], share, share < OWN_SHARE))
    by_size = sorted(recovered, key=lambda r: (-r.turns, r.reference))
    return by_size, sorted(stands, key=lambda s: (-s.turns, s.induced))


def recovery(input_file: Path, induced_dir: Path, reference_file: Path | None = None) -> dict[str, Any]:
    """Compare what `evaluate-induction` left in a folder with INPUT's gold; writes recovery.json and recovery.md there.

    Args:
        input_file: the conversations that were induced from, with `turn_labels`; a turn's first label counts.
        induced_dir: holds `taxonomy.yaml` and `assignments.jsonl`.
        reference_file: the taxonomy that the gold's tags come from, for their names.

    Raises:
        InputError: a file is missing or unusable, no assigned turn has gold, or a turn with gold is not assigned.
    """
    assignments = induced_dir / ASSIGNMENTS
    if not assignments.is_file():
        raise InputError(f"{assignments}: no such file; run `python -m jobs evaluate-induction` first")
    gold = gold_by_turn(read_conversations(input_file))
    tags = {(chat, turn): tag for chat, turn, tag in read_assignments(assignments)}
    labelled = {place: labels[0] for place, labels in gold.items() if labels}
    pairs = [(tag, labelled[place]) for place, tag in tags.items() if place in labelled]
    if not pairs:
        raise InputError(f"{input_file}: none of the assigned turns has gold (turn_labels)")
    if strange := labelled.keys() - tags.keys():
        lacking = f"{len(strange)} of {len(labelled)} labelled turns are not in {assignments}"
        raise InputError(f"{input_file}: {lacking}: give the file that was induced from")
    induced = load_taxonomy(induced_dir / TAXONOMY)
    reference = load_taxonomy(reference_file) if reference_file else None
    one, many = recover([tag for tag, _ in pairs], [label for _, label in pairs])
    statuses = [entry.status for entry in one]
    result: dict[str, Any] = {
        "induced": induced.name,
        "reference": reference.name if reference else input_file.stem,
        "turns": len(pairs),
        "counts": {
            **{status: statuses.count(status) for status in ("found", "partly", "missed")},
            "reference": len(one),
            "induced": len(many),
            "invented": sum(entry.invented for entry in many),
            "put_aside": sum(tag == NO_INTENT for tag, _ in pairs),
            "unlabelled": len(set(induced.tag_ids) - {entry.induced for entry in many}),
        },
        "one_to_one": [asdict(entry) for entry in one],
        "many_to_one": [asdict(entry) for entry in many],
    }
    (induced_dir / FIGURES).write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    (induced_dir / PAGE).write_text(_page(result, induced, reference), "utf-8")
    return result


def _page(result: dict[str, Any], induced: Taxonomy, reference: Taxonomy | None) -> str:
    names = {tag.id: f"{tag.name} ({tag.id})" for taxonomy in (induced, reference) if taxonomy for tag in taxonomy.tags}

    def cell(tag_id: str) -> str:
        # Names come from an LLM that read chats: they must not draw columns of their own; markup is escaped.
        return names.get(tag_id, tag_id).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.filters["cell"] = cell
    return environment.get_template("recovery.md.j2").render(result)
