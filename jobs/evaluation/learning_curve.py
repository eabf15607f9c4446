"""`learning-curve`: how good the student gets with 5, 10, 20, 50 gold conversations a tag."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.conversation import Conversation, read_conversations
from jobs.errors import InputError
from jobs.evaluation.folder import made
from jobs.evaluation.progress import Bars
from jobs.metrics import score_matrix
from jobs.privacy.redact import redact_conversation
from jobs.settings import Settings
from jobs.student.model import Student
from jobs.student.training import gold_matrix
from jobs.students import embedder_of

GOLD_A_TAG = (5, 10, 20, 50)
HELD_OUT_SHARE = 0.4
FIGURES, PLOT = "learning_curve.json", "learning_curve.svg"


@dataclass(frozen=True, slots=True)
class Point:
    """`gold_a_tag` conversations drawn for each tag that has so many; one value a seed, each in [0, 1]."""

    gold_a_tag: int
    conversations: tuple[int, ...]
    short_tags: tuple[int, ...]
    micro_f1: tuple[float, ...]
    macro_f1: tuple[float, ...]


def split_pool(
    labelled: Sequence[Conversation], generator: np.random.Generator
) -> tuple[list[Conversation], list[Conversation]]:
    """(pool, held out): a random `HELD_OUT_SHARE` is held out; the pool comes in random order.

    Copies stay on one side, else the student would be asked what it has learned by heart.
    """
    # The draw rests on hashes of texts: of copies on the least one.
    least: dict[str, str] = {}
    for c in labelled:
        least[c.copy_key] = min(c.content_hash, least.get(c.copy_key, c.content_hash))
    hashes = sorted(least.values())
    order = {hashes[i]: place for place, i in enumerate(generator.permutation(len(hashes)).tolist())}
    border = round(len(hashes) * HELD_OUT_SHARE)
    turns = [(order[least[c.copy_key]], c) for c in labelled]
    mixed = sorted(turns, key=lambda turn: turn[0])
    return [c for turn, c in mixed if turn >= border], [c for turn, c in mixed if turn < border]


def draw_gold(pool: Sequence[Conversation], gold_a_tag: int) -> list[Conversation]:
    """The first conversations of the pool that give every tag `gold_a_tag` of them, or all there are.

    Conversations without a tag come along in their share of the pool. A larger draw contains every smaller one's tags
    at least as often, though not the very same conversations only.
    """
    have: Counter[str] = Counter()
    taken: list[Conversation] = []
    bare = [c for c in pool if not c.labels]
    for conversation in pool:
        if any(have[tag] < gold_a_tag for tag in conversation.labels or ()):
            taken.append(conversation)
            have.update(conversation.labels or ())
    tagged = len(pool) - len(bare)
    return taken + bare[: round(len(bare) * len(taken) / tagged) if tagged else 0]


def _measure(student: Student, held: Sequence[Conversation]) -> tuple[float, float]:
    found = student.predict([replace(c, labels=None, turn_labels=None) for c in held])
    scores = score_matrix(gold_matrix(held, student.tags), found.decisions, student.tags)
    return scores.micro.f1, scores.macro.f1


def learning_curve(input_file: Path, out: Path, *, seeds: int, settings: Settings) -> dict[str, Any]:
    """Draw gold from INPUT with several seeds, learn, score on what each seed held out; write figures and a plot.

    Tags are the labels of INPUT. Under `out`: `learning_curve.json` (what is returned) and `learning_curve.svg`.
    Thresholds and weights are those the student always has: nothing is chosen on the held-out part.

    Raises:
        InputError: INPUT cannot be used, has no labels or is all one text, `seeds` is not positive, or `out` cannot be
            written.
    """
    began = time.monotonic()
    labelled = [redact_conversation(c) for c in read_conversations(input_file) if c.labels is not None]
    tags = tuple(sorted({label for c in labelled for label in c.labels or ()}))
    if not tags:
        raise InputError(f"{input_file}: holds no labels; a learning curve needs conversations with `labels`")
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: at least one is needed")
    if not split_pool(labelled, np.random.default_rng(0))[1]:
        raise InputError(f"{input_file}: too few different conversations to hold some out")
    made(out)
    embedder = embedder_of(settings)
    found: dict[int, list[tuple[int, int, float, float]]] = {size: [] for size in GOLD_A_TAG}
    with Bars() as bars:
        for seed in range(seeds):
            pool, held = split_pool(labelled, np.random.default_rng(seed))
            for number, size in enumerate(GOLD_A_TAG):
                bars("learning curve", seed * len(GOLD_A_TAG) + number, seeds * len(GOLD_A_TAG))
                gold = draw_gold(pool, size)
                student = Student.fit(gold, tags, taxonomy=None, settings=settings.student, embedder=embedder)
                have = Counter(label for c in gold for label in c.labels or ())
                short = sum(have[tag] < size for tag in tags)
                found[size].append((len(gold), short, *_measure(student, held)))
    result = {
        "input": input_file.name,
        "conversations": len(labelled),
        "tags": len(tags),
        "seeds": seeds,
        "held_out_share": HELD_OUT_SHARE,
        "points": [asdict(Point(size, *zip(*rows, strict=True))) for size, rows in found.items()],
        "seconds": round(time.monotonic() - began, 2),
    }
    try:
        (out / FIGURES).write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        _draw(result, out / PLOT)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error
    return result


def _draw(result: dict[str, Any], path: Path) -> None:
    """Mean over the seeds with the lowest and highest as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [point["gold_a_tag"] for point in result["points"]]
    for name, label, shift in (("micro_f1", "micro F1", 0.98), ("macro_f1", "macro F1", 1.02)):
        values = np.array([point[name] for point in result["points"]])
        mean = values.mean(axis=1)
        bars = np.stack([mean - values.min(axis=1), values.max(axis=1) - mean])
        axes.errorbar(np.array(sizes) * shift, mean, yerr=bars, marker="o", capsize=3, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.minorticks_off()
    # The input's name is no title: matplotlib has no Chinese glyphs, and would read `$` as mathematics.
    title = f"Student on held-out gold; mean, lowest and highest of {result['seeds']} seeds"
    axes.set(xlabel="gold conversations a tag", ylabel="F1", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    # A fixed salt and no date: the same figures give the same file.
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "learning-curve"}):
        figure.savefig(path, metadata={"Date": None, "Title": result["input"]})
