"""Induction on every development set beside its yardsticks, as one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from jobs.bench.induction_sets import draw_set, load_sets
from jobs.errors import InputError
from jobs.evaluation.evaluate_induction import evaluate_induction
from jobs.settings import Settings

Say = Callable[[str], None]

_COLUMNS = ("accuracy", "precision", "recall", "f1", "nmi", "ari")


def bench_induction(settings: Settings, data: Path, chosen: list[str], say: Say) -> dict[str, Any]:
    """Draw the sets from the files in `data` and induce on each three times: k-means, consensus of e5, our recipe.

    `chosen` names some of the sets, empty: all. Without LLM: these figures are the grouping's. Gold is compared once
    the assignments are written.

    Returns:
        `sets`: by name the figures of `induction.json` for each way; `average`: the mean accuracy of each way.

    Raises:
        InputError: a file is missing, or a set is not among those of `config/induction-sets.yaml`.
    """
    rules = load_sets()
    unknown = sorted(set(chosen) - set(rules))
    if unknown:
        raise InputError(f"no induction set {', '.join(unknown)}; there are: {', '.join(rules)}")
    out = settings.var_dir / "bench" / "induction"
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in chosen or list(rules):
        path = draw_set(name, rules[name], data, out / "sets")

        def run(way: str, path: Path = path, **how: Any) -> dict[str, Any]:
            return evaluate_induction(path, out / way / path.stem, use_llm=False, settings=settings, **how)

        found[name] = {
            "kmeans": run("kmeans", yardstick="kmeans"),
            "consensus": run("consensus", yardstick="consensus"),
            "recipe": run("recipe"),
        }
        shares = ", ".join(f"{way} {row['accuracy']:.3f}" for way, row in found[name].items())
        say(f"{name}: {found[name]['recipe']['turns']} turns, accuracy {shares}")
    ways = ("kmeans", "consensus", "recipe")
    return {"sets": found, "average": {way: fmean(row[way]["accuracy"] for row in found.values()) for way in ways}}


def induction_page(result: dict[str, Any]) -> str:
    """The result as a Markdown table; all but counts and seconds in percent."""
    lines = [
        "| set | k-means | consensus | accuracy | P | R | F1 | NMI | ARI | found / gold | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["sets"].items():
        own = row["recipe"]
        cells = [f"{100 * row[way]['accuracy']:.1f}" for way in ("kmeans", "consensus")]
        cells += [f"{100 * own[column]:.1f}" for column in _COLUMNS]
        cells += [f"{own['tags_found']} / {own['tags_gold']}", f"{own['seconds']:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    average = [f"{100 * share:.1f}" for share in result["average"].values()]
    lines.append(f"| average | {' | '.join(average)} |" + " |" * 7)
    return "\n".join(lines) + "\n"
