"""Results of the two evaluation commands as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_WORST = 12
_FEWEST_DIFFERENT = 6
"""A coin falls five times on one side oftener than once in twenty, and the bootstrap does not know it."""


def scores_table(result: dict[str, Any]) -> Table:
    """Micro, macro and the worst tags of `scores.json`; only counts where the test file had no labels."""
    title = f"{result['conversations']} conversations, {result['seconds']:.1f} s"
    if seen := result.get("seen_in_train"):
        title += f"; {seen} stand{'s' * (seen == 1)} in TRAIN word for word"
    if silent := result.get("llm_unanswered"):
        fate = "the student decided" if result["labeller"] == "cascade" else "without a tag"
        title += f"; no usable answer of the LLM about {silent}: {fate}"
    table = Table(title=title)
    table.add_column(overflow="fold")
    for name in ("precision", "recall", "F1", "support", "at least (P, R)"):
        table.add_column(name, justify="right")
    for name in ("micro", "macro"):
        if name in result:
            row = result[name]
            table.add_row(name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), "", "")
    tags = sorted(result.get("tags", {}).items(), key=lambda item: (item[1]["f1"], -item[1]["support"]))
    for tag_id, row in tags[:_WORST]:
        figures = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        bounds = f"{row['precision_low']:.2f}, {row['recall_low']:.2f}"
        table.add_row(tag_id, *figures, str(row["support"]), bounds)
    if len(tags) > _WORST:
        table.caption = f"the {_WORST} weakest of {len(tags)} tags; all of them are in scores.json"
    return table


def promises_table(result: dict[str, Any]) -> Table:
    """What the cascade promises about each tag, promised ones first, then those that lack the least gold."""
    made = sum(row["promised"] != "none" for row in result["promises"])
    table = Table(title=f"{made} of {len(result['promises'])} tags promised")
    table.add_column("tag", overflow="fold")
    for name in ("promised", "present from", "absent to", "at least (P, R)", "more gold"):
        table.add_column(name, justify="left" if name == "promised" else "right")
    far = 10**9
    rows = sorted(result["promises"], key=lambda row: far if row["more_gold"] is None else row["more_gold"])
    for row in rows[:_WORST]:
        cuts = ("—" if row[name] is None else f"{row[name]:.2f}" for name in ("accept_at", "reject_at"))
        bounds = f"{row['precision_low']:.2f}, {row['recall_low']:.2f}"
        more = "none helps" if row["more_gold"] is None else str(row["more_gold"])
        table.add_row(row["tag_id"], row["promised"], *cuts, bounds, more)
    if len(rows) > _WORST:
        table.caption = f"{_WORST} of {len(rows)} tags; all of them are in the result's file"
    return table


def costs_table(result: dict[str, Any]) -> Table:
    """What the cascade would ask and win on held-out TRAIN with wider and narrower bands of doubt."""
    table = Table(title="the student unsure between …, on held-out TRAIN (label.unsure_low, label.unsure_high)")
    for name in ("from", "to", "asked", "precision", "recall", "F1", "at least (P, R)", "target", ""):
        table.add_column(name, justify="right")
    for row in result["costs"]:
        asked = f"{row['asked']} of {row['conversations']}"
        cells = [f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
        cells += [f"{row['precision_low']:.2f}, {row['recall_low']:.2f}", "proven" if row["proven"] else "—"]
        table.add_row(f"{row['low']:.2f}", f"{row['high']:.2f}", asked, *cells, "used" if row["chosen"] else "")
    rest = "all its tags" if any(row["whole"] for row in result["costs"]) else "what the student is unsure of"
    table.caption = f"over all tags together; of conversations asked about the LLM decides {rest}"
    return table


def induction_table(result: dict[str, Any]) -> Table:
    """Figures of `induction.json`, or only the number of tags where the input had no gold."""
    table = Table(title="induction")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    return table


def curve_table(result: dict[str, Any]) -> Table:
    """Figures of `learning_curve.json`: means over the seeds, the lowest and the highest in brackets."""
    table = Table(title=f"{result['input']}: {result['tags']} tags, {result['seeds']} seeds, {result['seconds']:.1f} s")
    for name in ("gold a tag", "conversations", "tags with fewer", "micro F1", "macro F1"):
        table.add_column(name, justify="right")
    for point in result["points"]:
        cells = [
            f"{sum(point[name]) / len(point[name]):.3f} ({min(point[name]):.3f}–{max(point[name]):.3f})"
            for name in ("micro_f1", "macro_f1")
        ]
        counts = [f"{sum(point[name]) / len(point[name]):.0f}" for name in ("conversations", "short_tags")]
        table.add_row(str(point["gold_a_tag"]), *counts, *cells)
    return table


def flips_table(result: dict[str, Any], confidence: float) -> Table:
    """Share of labels and conversations that changed, and the least stable tags; intervals are of `confidence`."""
    interval = result["changed_interval"]
    title = (
        f"{result['flipped']} of {result['labels']} labels flipped ({result['share']:.1%}); "
        f"{result['changed']} of {result['conversations']} conversations changed "
        f"({confidence:.0%} interval {interval['low']:.1%} to {interval['high']:.1%})"
    )
    table = Table(title=title)
    table.add_column("tag", overflow="fold")
    for name in ("flipped", "labels", "share", f"{confidence:.0%} interval"):
        table.add_column(name, justify="right")
    for tag, (flipped, given) in list(result["tags"].items())[:_WORST]:
        bounds = result["tag_intervals"][tag]
        cells = (str(flipped), str(given), f"{flipped / given:.1%}", f"{bounds['low']:.1%} to {bounds['high']:.1%}")
        table.add_row(tag, *cells)
    if "requests" in result:
        table.caption = (
            f"The LLM was asked about {result['asked']} of them again, in {result['requests']} requests; "
            f"{result['unanswered']} more got no usable answer and are not compared."
        )
    return table


def comparison_table(result: dict[str, Any], confidence: float) -> Table:
    """Micro F1 of two labellings, their difference with its interval of `confidence`, and how many conversations each
    is better on."""
    table = Table(title=f"{result['conversations']} conversations, the same for both")
    table.add_column("figure")
    table.add_column("value", justify="right")
    low, high, p = result["interval"]["low"], result["interval"]["high"], result["p_value"]
    table.add_row("micro F1 before", f"{result['first']:.3f}")
    table.add_row("micro F1 after", f"{result['second']:.3f}")
    table.add_row("difference, points", f"{100 * result['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
    table.add_row("labels right before alone / after alone", f"{result['first_alone']} / {result['second_alone']}")
    table.add_row("conversations worse / better after", f"{result['worse']} / {result['better']}")
    table.add_row("sign test over conversations, p", f"{p:.3f}" if p >= 0.001 else "under 0.001")
    differ = result["worse"] + result["better"]
    if low <= 0 <= high:
        table.caption = f"within chance: the interval holds 0 ({confidence:.0%})"
    elif differ < _FEWEST_DIFFERENT:
        table.caption = f"within chance: only {differ} of the conversations are better or worse"
    else:
        table.caption = f"beyond chance: the interval leaves 0 out ({confidence:.0%})"
    return table
