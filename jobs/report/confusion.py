"""Where the cascade is wrong on gold: examples and mix-ups of the calibration split, reliability on the test split.

Text of test gold is never read here: whoever tunes definitions or prompts by this page must not see it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import functions as F

from jobs.conversation import CUSTOMER
from jobs.labelling.decide import CANNOT_TELL, NONE
from jobs.storage import Tables

CALIBRATION = "calibration"
HELD_BACK = "test"
PER_TAG = 2
"""Examples of a tag's wrong, and of its missed ones."""
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong or missed tag of a calibration conversation.

    `quotes` are what gold points to where the tag was missed; where it is wrong, the labeller's evidence if the
    conversation was labelled on some night (`labeller` then says by whom), otherwise what the customer said.
    """

    tag_id: str
    missed: bool
    conversation_id: str
    quotes: tuple[str, ...]
    confidence: float | None = None
    labeller: str | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """Tags given with a confidence in [low, high): how many, their mean confidence, how many were right."""

    low: float
    high: float
    tags: int
    confidence: float
    right: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """`conversations` counts the calibration gold; `counts` holds (wrong, missed) of each tag with mistakes, of which
    `mistakes` shows some; `mix_ups` counts (missed, given instead) pairs of one conversation.
    """

    conversations: int
    counts: Mapping[str, tuple[int, int]]
    mistakes: tuple[Mistake, ...]
    mix_ups: tuple[tuple[str, str, int], ...]
    reliability: tuple[Bin, ...]


def collect_confusion(tables: Tables, ds: str, *, per_tag: int = PER_TAG) -> Confusion:
    """Mistakes of the cascade on the gold of night `ds`: at most `per_tag` wrong and `per_tag` missed ones a tag.

    Gold is people's work and therefore small enough to collect.

    Raises:
        InputError: the night has no gold or no predictions on it.
    """
    given = _predictions(tables, ds)
    evidence = _evidence(tables, ds)
    mistakes: list[Mistake] = []
    mix_ups: Counter[tuple[str, str]] = Counter()
    answers: list[tuple[float, bool]] = []
    conversations = 0
    for gold in _gold(tables, ds):
        tags, truth = given.get(gold["conversation_id"], {}), set(gold["labels"])
        if gold["split"] == HELD_BACK:
            answers += [(confidence, tag in truth) for tag, confidence in tags.items()]
            continue
        conversations += 1
        missed, wrong = sorted(truth - set(tags)), sorted(set(tags) - truth)
        mistakes += [_missed(gold, tag) for tag in missed]
        mistakes += [_wrong(gold, tag, tags[tag], evidence) for tag in wrong]
        mix_ups.update((right, instead) for right in missed for instead in wrong)
    return Confusion(
        conversations,
        _count(mistakes),
        _pick(mistakes, per_tag),
        tuple((missed, given, n) for (missed, given), n in sorted(mix_ups.items(), key=lambda i: (-i[1], i[0]))),
        reliability(answers),
    )


def reliability(answers: Iterable[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Bins of (confidence, was it right); empty bins are left out."""
    binned: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in answers:
        binned[sum(confidence >= edge for edge in _EDGES[1:-1])].append((confidence, right))
    return tuple(
        Bin(
            _EDGES[place],
            _EDGES[place + 1],
            len(found),
            sum(confidence for confidence, _ in found) / len(found),
            sum(right for _, right in found),
        )
        for place, found in sorted(binned.items())
    )


def _predictions(tables: Tables, ds: str) -> dict[str, dict[str, float]]:
    rows = tables.read("gold_predictions", ds).where(F.col("labeller") == "cascade")
    given: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows.select("conversation_id", "tag_id", "confidence").collect():
        if row["tag_id"] not in (NONE, CANNOT_TELL):
            given[row["conversation_id"]][row["tag_id"]] = row["confidence"]
    return given


def _gold(tables: Tables, ds: str) -> Sequence[Any]:
    calibration = F.col("split") == CALIBRATION
    frame = tables.read("gold", ds).where(F.col("split").isin(CALIBRATION, HELD_BACK))
    # Texts and evidence of the test split do not leave Spark.
    frame = frame.withColumns({name: F.when(calibration, F.col(name)) for name in ("turns", "evidence")})
    return frame.orderBy("conversation_id").collect()


def _evidence(tables: Tables, ds: str) -> dict[tuple[str, str, str], Any]:
    """Newest label of calibration conversations by (conversation, content, tag)."""
    key = ["conversation_id", "content_hash"]
    gold = tables.read("gold", ds).where(F.col("split") == CALIBRATION).select(*key)
    labels = tables.read_all("labels", until=ds).join(gold, key).orderBy("ds")
    rows = labels.select(*key, "tag_id", "labeller", "evidence").collect()
    return {(row["conversation_id"], row["content_hash"], row["tag_id"]): row for row in rows}


def _missed(gold: Any, tag: str) -> Mistake:
    texts = {turn["turn"]: turn["text"] for turn in gold["turns"]}
    turns = [turn for evidence in gold["evidence"] if evidence["tag_id"] == tag for turn in evidence["turns"]]
    return Mistake(tag, True, gold["conversation_id"], tuple(texts[turn] for turn in turns if turn in texts))


def _wrong(gold: Any, tag: str, confidence: float, labels: Mapping[tuple[str, str, str], Any]) -> Mistake:
    label = labels.get((gold["conversation_id"], gold["content_hash"], tag))
    if label is not None and label["evidence"]:
        quotes = tuple(evidence["quote"] for evidence in label["evidence"])
        return Mistake(tag, False, gold["conversation_id"], quotes, confidence, label["labeller"])
    said = tuple(turn["text"] for turn in gold["turns"] if turn["speaker"] == CUSTOMER)
    return Mistake(tag, False, gold["conversation_id"], said, confidence)


def _count(mistakes: Iterable[Mistake]) -> dict[str, tuple[int, int]]:
    found = Counter((mistake.tag_id, mistake.missed) for mistake in mistakes)
    return {tag: (found[tag, False], found[tag, True]) for tag in sorted({tag for tag, _ in found})}


def _pick(mistakes: list[Mistake], per_tag: int) -> tuple[Mistake, ...]:
    # The surest wrong ones first: they mislead most.
    ordered = sorted(mistakes, key=lambda m: (m.tag_id, m.missed, -(m.confidence or 0.0), m.conversation_id))
    taken: Counter[tuple[str, bool]] = Counter()
    picked = []
    for mistake in ordered:
        place = (mistake.tag_id, mistake.missed)
        taken[place] += 1
        if taken[place] <= per_tag:
            picked.append(mistake)
    return tuple(picked)
