"""Induction on every development set beside its yardsticks, as one table; on wish with a simulated judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from jobs.bench.induction_sets import draw_set, load_sets
from jobs.bench.simulated_judge import SimulatedJudge, tags_by_text
from jobs.conversation import read_conversations
from jobs.errors import InputError
from jobs.evaluation.evaluate_induction import evaluate_induction, gold_by_turn
from jobs.llm.profiles import load_profile
from jobs.privacy.redact import redact_conversation
from jobs.settings import Settings

LEARNED = "learned encoder"
LLM = "LLM"
Say = Callable[[str], None]

_COLUMNS = ("accuracy", "precision", "recall", "f1", "nmi", "ari")


def _judged(path: Path, settings: Settings, errors: Sequence[float], out: Path) -> dict[str, dict[str, Any]]:
    """Our recipe with judges that err on such shares of pairs; names are keywords, wishes are not simulated."""
    induce = settings.induce.model_copy(update={"topics": 0, "wishes": False})
    settings = settings.model_copy(update={"induce": induce})
    gold = tags_by_text([redact_conversation(chat) for chat in read_conversations(path)])
    found: dict[str, dict[str, Any]] = {}
    for error in errors:
        judge = SimulatedJudge(load_profile(settings), settings.llm, gold=gold, error=error)
        way = f"judge {error:.0%} wrong"
        found[way] = evaluate_induction(path, out / way / path.stem, use_llm=False, settings=settings, asker=judge)
    return found


def _learned(
    path: Path, settings: Settings, encoder: Path | None, out: Path, *, llm: bool
) -> dict[str, dict[str, Any]]:
    """Our recipe on the vectors of an encoder that learned from other sources; on wish with the LLM too."""
    if encoder is None:
        return {}
    embeddings = settings.embeddings.model_copy(update={"induction_profile": str(encoder.resolve())})
    settings = settings.model_copy(update={"embeddings": embeddings})
    found = {LEARNED: evaluate_induction(path, out / "learned" / path.stem, use_llm=False, settings=settings)}
    return found | (_with_llm(path, settings, f"{LEARNED}, {LLM}", out) if llm else {})


def _with_llm(path: Path, settings: Settings, way: str, out: Path) -> dict[str, dict[str, Any]]:
    """Our recipe with the LLM of the settings, who names and judges."""
    return {way: evaluate_induction(path, out / way / path.stem, use_llm=True, settings=settings)}


def drawn_sets(data: Path, chosen: Sequence[str], out: Path) -> list[Path]:
    """The sets of `config/induction-sets.yaml`, drawn from the files in `data`; `chosen` names some, empty: all.

    Raises:
        InputError: a file is missing, or a set is not among them.
    """
    rules = load_sets()
    unknown = sorted(set(chosen) - set(rules))
    if unknown:
        raise InputError(f"no induction set {', '.join(unknown)}; there are: {', '.join(rules)}")
    return [draw_set(name, rules[name], data, out) for name in chosen or rules]


def _check(files: Sequence[Path]) -> None:
    """Each has gold by turn and a name of its own, before anything is induced."""
    names = Counter(path.stem for path in files)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise InputError(f"bench induction: two files are called {', '.join(twice)}: rename one, results go by name")
    for path in files:
        if not any(gold_by_turn(read_conversations(path)).values()):
            raise InputError(f"{path}: no customer turn has gold (turn_labels)")


def bench_induction(
    settings: Settings,
    files: Sequence[Path],
    errors: Sequence[float],
    say: Say,
    encoders: Mapping[str, Path] | None = None,
    *,
    llm: bool = False,
) -> dict[str, Any]:
    """Induce on each labelled file three times: k-means, consensus of e5, our recipe; all without LLM.

    `errors`: further runs, each with a simulated judge that is wrong about this share of pairs. `encoders`: by name of
    the file, for one more run each. `llm`: one more run with the LLM of the settings, and where the file has an encoder
    one on its vectors. Gold is compared once the assignments are written.

    Returns:
        `sets`: by name of the file the figures of `induction.json` for each way; `average`: the mean accuracy of each.

    Raises:
        InputError: a file cannot be read, has no gold by turn, or is called as another one.
        ServerError: the LLM is wanted and does not answer.
    """
    out = settings.var_dir / "bench" / "induction"
    found: dict[str, dict[str, dict[str, Any]]] = {}
    _check(files)
    for path in files:
        name = path.stem
        common: dict[str, Any] = {"use_llm": False, "settings": settings}
        found[name] = {
            "kmeans": evaluate_induction(path, out / "kmeans" / name, yardstick="kmeans", **common),
            "consensus": evaluate_induction(path, out / "consensus" / name, yardstick="consensus", **common),
            "recipe": evaluate_induction(path, out / "recipe" / name, **common),
            **(_with_llm(path, settings, LLM, out) if llm else {}),
            **_learned(path, settings, (encoders or {}).get(name), out, llm=llm),
            **_judged(path, settings, errors, out),
        }
        shares = ", ".join(f"{way} {row['accuracy']:.3f}" for way, row in found[name].items())
        say(f"{name}: {found[name]['recipe']['turns']} turns, accuracy {shares}")
    ways = list(next(iter(found.values())))
    return {"sets": found, "average": {way: fmean(row[way]["accuracy"] for row in found.values()) for way in ways}}


def induction_page(result: dict[str, Any]) -> str:
    """The result as a Markdown table; all but counts and seconds in percent. Columns after the seconds: accuracy."""
    further = [way for way in result["average"] if way not in ("kmeans", "consensus", "recipe")]
    heads = [
        "set",
        "k-means",
        "consensus",
        "accuracy",
        "P",
        "R",
        "F1",
        "NMI",
        "ARI",
        "found / gold",
        "seconds",
        *further,
    ]
    rows = [heads, ["---"] * len(heads)]
    for name, row in result["sets"].items():
        own = row["recipe"]
        rows.append(
            [
                name,
                *(f"{100 * row[way]['accuracy']:.1f}" for way in ("kmeans", "consensus")),
                *(f"{100 * own[column]:.1f}" for column in _COLUMNS),
                f"{own['tags_found']} / {own['tags_gold']}",
                f"{own['seconds']:.0f}",
                *(f"{100 * row[way]['accuracy']:.1f}" for way in further),
            ]
        )
    average = {way: f"{100 * share:.1f}" for way, share in result["average"].items()}
    blank = [""] * (len(_COLUMNS) + 1)
    first = [average[way] for way in ("kmeans", "consensus", "recipe")]
    rows.append(["average", *first, *blank, *(average[way] for way in further)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
