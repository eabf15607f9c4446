"""Benchmark: is the cheapest proven band of doubt what it says, and what does it save?

The student is real and judges labelled conversations that it has not seen. The LLM is simulated: it knows the labels
and errs on purpose, most readily where the student does. Many times over, a few conversations are drawn as calibration
gold, a band is chosen on them (`jobs/cost_curve.py`), and all the others show what it comes to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from jobs.bench.measure import save_figures
from jobs.cascade import Bands, BoolArray, FloatArray, llm_trust
from jobs.conversation import Conversation
from jobs.cost_curve import Band, Choice, Tried, cascade_on, choose_band, cost_curve
from jobs.errors import InputError
from jobs.evaluation.progress import Bars
from jobs.guarantee import Evidence, Target, promises
from jobs.metrics import figures
from jobs.settings import Settings
from jobs.student.model import Student
from jobs.student.training import gold_matrix
from jobs.students import embedder_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """One draw: whether a band was proven, and what it comes to on the conversations that were not drawn.

    `whole`: whether the LLM decides all its tags there. `asked`: share of them that go to the LLM; `fixed_`: the same
    with the settings' band.
    """

    proven: bool
    whole: bool
    asked: float
    precision: float
    recall: float
    f1: float
    fixed_asked: float
    fixed_f1: float


def simulated_llm(gold: BoolArray, probabilities: FloatArray, wrong: float, seed: int) -> BoolArray:
    """(n, t) answers that miss a share `wrong` of the tags and give as many that are not there, the likelier the more
    the student thinks of them."""
    generator = np.random.default_rng(seed)
    said = gold & (generator.random(gold.shape) >= wrong)
    weights = np.where(gold, 0.0, probabilities)
    chances = wrong * gold.sum() * weights / weights.sum()
    return np.asarray(said | (generator.random(gold.shape) < chances), dtype=np.bool_)


def draw(seen: Tried, rows: npt.NDArray[np.int64], target: Target, configured: Band) -> Outcome:
    """Choose on calibration gold `rows`, measure on all other conversations."""
    names = [str(i) for i in range(seen.gold.shape[1])]
    some = seen.at(rows)
    trust = llm_trust(names, some.gold, some.student, some.llm, some.answered)
    promised = promises(names, Evidence(some.probabilities, some.gold, some.llm, some.answered), target)
    decides = np.array([entry.llm_decides for entry in trust], np.bool_)
    points = cost_curve(some, promised, target, configured, decides=decides)
    fixed, proven = choose_band(points, configured, "fixed"), choose_band(points, configured, "proven")
    decides |= np.array([entry.promised == "cascade" for entry in promised], np.bool_)
    others = seen.at(np.setdiff1d(np.arange(len(seen.gold)), rows))
    mine = [name for name, yes in zip(names, decides, strict=True) if yes]

    def measure(choice: Choice) -> tuple[float, float, float, float]:
        tags = choice.whole_tags(promised, mine)
        whole = np.array([name in tags for name in names], np.bool_)
        asked, decided = cascade_on(others, Bands.of(promised, *choice.band), decides, whole)
        truth = others.gold
        micro = figures(float((truth & decided).sum()), float(decided.sum()), float(truth.sum()))
        return float(asked.any(axis=1).mean()), micro.precision, micro.recall, micro.f1

    asked, precision, recall, f1 = measure(proven)
    fixed_asked, _, _, fixed_f1 = measure(fixed)
    found = any(point.proven for point in points)
    return Outcome(found, proven.whole, asked, precision, recall, f1, fixed_asked, fixed_f1)


def bench_band(
    settings: Settings, chats: Sequence[Conversation], wrong: Sequence[float], calibration: Sequence[int], draws: int
) -> tuple[list[dict[str, Any]], Path]:
    """One row for each share of wrong answers and size of calibration gold.

    `broken`: share of all draws in which a band was proven and misses a target on the other conversations; it should
    not be above 1 - `gate.confidence`.

    Raises:
        InputError: too few labelled conversations.
    """
    # Of copies one counts, as in a night: they err together.
    labelled = list({chat.content_hash: chat for chat in chats if chat.labels is not None}.values())
    if len(labelled) < 2 * max(calibration):
        raise InputError(f"{len(labelled)} labelled conversations: {2 * max(calibration)} are needed")
    tags = sorted({label for chat in labelled for label in chat.labels or ()})
    gold = gold_matrix(labelled, tags)
    with Bars() as bars:
        embedder = embedder_of(settings)
        student = Student.fit(
            labelled, tags, taxonomy=None, settings=settings.student, embedder=embedder, progress=bars
        )
        found = student.predict(labelled, bars, left_out=True)
        gate = settings.gate
        target = Target(gate.target_precision, gate.target_recall, gate.confidence)
        rows: list[dict[str, Any]] = []
        everything = np.ones(len(gold), np.bool_)
        for share in wrong:
            llm = simulated_llm(gold, found.probabilities, share, settings.student.seed)
            seen = Tried(gold, found.probabilities, found.decisions, llm, everything, everything)
            for size in calibration:
                outcomes = []
                for number in range(draws):
                    drawn = np.random.default_rng([settings.student.seed, number]).permutation(len(gold))[:size]
                    configured = (settings.label.unsure_low, settings.label.unsure_high)
                    outcomes.append(draw(seen, drawn, target, configured))
                    bars(f"{share:.0%} wrong, {size} of calibration", number + 1, draws)
                rows.append({"wrong": share, "calibration": size} | _summary(outcomes, target))
    return rows, save_figures(settings, "band", {"rows": rows})


def _summary(outcomes: Sequence[Outcome], target: Target) -> dict[str, float]:
    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    broken = [o.proven and (o.precision < target.precision or o.recall < target.recall) for o in outcomes]
    return {
        "proven": mean([o.proven for o in outcomes]),
        "whole": mean([o.whole for o in outcomes]),
        "broken": mean(broken),
        "asked": mean([o.asked for o in outcomes]),
        "precision": mean([o.precision for o in outcomes]),
        "recall": mean([o.recall for o in outcomes]),
        "f1": mean([o.f1 for o in outcomes]),
        "asked_fixed": mean([o.fixed_asked for o in outcomes]),
        "f1_fixed": mean([o.fixed_f1 for o in outcomes]),
    }


def band_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `bench_band` for the terminal, shares in percent."""
    table = Table(title="label.band: proven, a simulated LLM; where nothing is proven, the settings' band")
    for name in ("wrong", "gold", "proven", "broken", "whole", "asked", "P", "R", "F1", "fixed band: asked", "F1"):
        table.add_column(name, justify="right")
    for row in rows:
        shares = (f"{row[name]:.1%}" for name in ("proven", "broken", "whole", "asked"))
        figures_shown = (f"{row[name]:.3f}" for name in ("precision", "recall", "f1"))
        fixed = f"{row['asked_fixed']:.1%}", f"{row['f1_fixed']:.3f}"
        table.add_row(f"{row['wrong']:.0%}", str(row["calibration"]), *shares, *figures_shown, *fixed)
    return table
