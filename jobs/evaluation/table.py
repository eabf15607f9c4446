"""Results of the two evaluation commands as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_WORST = 12


def scores_table(result: dict[str, Any]) -> Table:
    """Micro, macro and the worst tags of `scores.json`; only counts where the test file had no labels."""
    table = Table(title=f"{result['conversations']} conversations, {result['seconds']:.1f} s")
    for name in ("", "precision", "recall", "F1", "support", "at least (P, R)"):
        table.add_column(name, justify="left" if not name else "right")
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


def induction_table(result: dict[str, Any]) -> Table:
    """Figures of `induction.json`, or only the number of tags where the input had no gold."""
    table = Table(title="induction")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    return table
