"""`split`: one labelled file into TRAIN and TEST for `evaluate`, so that a figure can be shown again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jobs.conversation import iter_records
from jobs.errors import InputError
from jobs.evaluation.draw import draw_together


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Lines written to either file."""

    train: int
    test: int


def split_file(
    source: Path,
    out: Path,
    *,
    train: Sequence[str] = (),
    test: Sequence[str] = (),
    share: float | None = None,
    seed: int = 0,
    no_tag: Sequence[str] = (),
    limit: int | None = None,
) -> SplitCounts:
    """Write `out`/train.jsonl and `out`/test.jsonl, in the order of the input; unlabelled lines stay unlabelled.

    Args:
        source: labelled conversations, one a line.
        out: folder, made where missing.
        train: patterns (`fold[13579]`) of the field `split` for TRAIN; with `test` for TEST.
        test: see `train`; lines of neither are left out.
        share: instead of patterns, the share of lines drawn for TRAIN with `seed`; copies (`Conversation.copy_key`)
            stay together.
        seed: of the draws.
        no_tag: labels that stand for "no tag", such as an out-of-scope class: taken off.
        limit: so many lines of TEST are drawn with `seed`, for labellers that are slow.

    Raises:
        InputError: a bad line, patterns that overlap or match nothing, patterns and share both or neither.
    """
    records = list(iter_records(source))
    rows = [row for row, _ in records]
    if (share is None) == (not (train and test)):
        raise InputError("split: give either --train and --test patterns, or --share")
    for row in rows:
        if row.get("labels") is not None:  # without them nobody has looked, which is not "no tag"
            row["labels"] = [label for label in row["labels"] if label not in no_tag]
    if share is not None:
        if not 0 < share < 1:
            raise InputError(f"split: --share is {share}; it must lie between 0 and 1")
        chosen = draw_together([chat.copy_key for _, chat in records], round(len(rows) * share), seed)
        parts = (
            [row for place, row in enumerate(rows) if place in chosen],
            [row for place, row in enumerate(rows) if place not in chosen],
        )
    else:
        parts = _by_patterns(rows, train, test)
    if limit is not None and limit < len(parts[1]):
        drawn = draw_together([str(row["conversation_id"]) for row in parts[1]], limit, seed)
        parts = (parts[0], [row for place, row in enumerate(parts[1]) if place in drawn])
    for name, part in zip(("train", "test"), parts, strict=True):
        if not part:
            why = f"the field `split` holds {_values(rows)}" if share is None else "too few different conversations"
            raise InputError(f"split: nothing is left for {name}; {why}")
        _write(out / f"{name}.jsonl", part)
    return SplitCounts(len(parts[0]), len(parts[1]))


def _by_patterns(
    rows: Sequence[dict[str, Any]], train: Sequence[str], test: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    learnt, held = [row for row in rows if _matches(row, train)], [row for row in rows if _matches(row, test)]
    if any(_matches(row, test) for row in learnt):
        raise InputError("split: some lines match both --train and --test; TEST must not be learned from")
    return learnt, held


def _matches(row: dict[str, Any], patterns: Sequence[str]) -> bool:
    return any(fnmatch(str(row.get("split", "")), pattern) for pattern in patterns)


def _values(rows: Sequence[dict[str, Any]]) -> str:
    return ", ".join(sorted({str(row.get("split", "nothing")) for row in rows})[:12])


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # What UTF-8 cannot hold, half of an emoji, is written as the escape that JSON has for it.
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8", "backslashreplace")
