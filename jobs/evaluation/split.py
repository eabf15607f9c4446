"""`split`: one labelled file into TRAIN and TEST for `evaluate`, so that a figure can be shown again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jobs.conversation import iter_records
from jobs.errors import InputError
from jobs.evaluation.draw import draw_together
from jobs.evaluation.folder import made
from jobs.privacy.redact import redact_conversation


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
    fold: str | None = None,
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
        share: instead of patterns, the share of lines drawn for TRAIN with `seed`; what is equal once redacted
            (`Conversation.copy_key`) stays together.
        fold: instead of both, `2/5`: TEST is the second of five parts drawn with `seed`; equal lines as above.
        seed: of the draws.
        no_tag: labels that stand for "no tag", such as an out-of-scope class: taken off.
        limit: so many lines of TEST are drawn with `seed`, for labellers that are slow.

    Raises:
        InputError: a bad line, patterns that overlap or match nothing, not just one of patterns, share and fold, `out`
            cannot be written or would hold `source`.
    """
    files = (out / "train.jsonl", out / "test.jsonl")
    if source.resolve() in [file.resolve() for file in files]:
        raise InputError(f"split: {source} would overwrite --input; give another --out")
    records = list(iter_records(source))
    rows = [row for row, _ in records]
    if sum([bool(train and test), share is not None, fold is not None]) != 1:
        raise InputError("split: give either --train and --test patterns, or --share, or --fold")
    for row in rows:
        if row.get("labels") is not None:  # without them nobody has looked, which is not "no tag"
            row["labels"] = [label for label in row["labels"] if str(label) not in no_tag]
    if share is not None or fold is not None:
        contents = [redact_conversation(chat).copy_key for _, chat in records]  # as labellers see them
        held = _fold(contents, fold, seed) if fold is not None else _rest(contents, share or 0, seed)
        parts = ([row for i, row in enumerate(rows) if i not in held], [rows[i] for i in sorted(held)])
    else:
        parts = _by_patterns(rows, train, test)
    if limit is not None and limit < len(parts[1]):
        drawn = draw_together([str(row["conversation_id"]) for row in parts[1]], limit, seed)
        parts = (parts[0], [row for place, row in enumerate(parts[1]) if place in drawn])
    for name, part in zip(("train", "test"), parts, strict=True):
        if not part:
            why = f"the field `split` holds {_values(rows)}" if train else "too few different conversations"
            raise InputError(f"split: nothing is left for {name}; {why}")
    _write(files, parts)
    return SplitCounts(len(parts[0]), len(parts[1]))


def _rest(contents: Sequence[str], share: float, seed: int) -> set[int]:
    """Places of TEST: what is not drawn for TRAIN."""
    if not 0 < share < 1:
        raise InputError(f"split: --share is {share}; it must lie between 0 and 1")
    return set(range(len(contents))) - draw_together(contents, round(len(contents) * share), seed)


def _fold(contents: Sequence[str], fold: str, seed: int) -> set[int]:
    """Places of TEST: one of several parts of like size."""
    from sklearn.model_selection import GroupKFold  # a second to import, and no other way to split needs it

    found = re.fullmatch(r"(\d+)/(\d+)", fold, re.ASCII)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise InputError(f"split: --fold is {fold!r}; it must be like 2/5, the second of five")
    if len(set(contents)) < count:
        raise InputError(f"split: {len(set(contents))} different conversations make no {count} folds")
    folds = GroupKFold(count, shuffle=True, random_state=seed).split(contents, groups=contents)
    return set(list(folds)[number - 1][1].tolist())


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


def _write(files: Sequence[Path], parts: Sequence[Sequence[dict[str, Any]]]) -> None:
    out = made(files[0].parent)
    try:
        for file in files:
            file.unlink(missing_ok=True)  # an old TEST beside a new TRAIN might hold what is learned from
        for file, rows in zip(files, parts, strict=True):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            # What UTF-8 cannot hold, half of an emoji, is written as the escape that JSON has for it.
            file.write_text(text, "utf-8", "backslashreplace")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error
