"""The quality gate between the scores and the CRM: a night under the floor is not published, nor by a later night."""

from __future__ import annotations

from pyspark.sql import functions as F

from jobs.errors import GateError
from jobs.gate_verdicts import give_verdict
from jobs.settings import Settings
from jobs.storage import Tables


def gate(tables: Tables, settings: Settings, ds: str) -> str:
    """Hold the cascade's micro averages on test gold (lower bounds) against the floor; returns a line that says how.

    The verdict is kept for `profile`, of this night and of later ones (`jobs/gate_verdicts.py`).

    Raises:
        InputError: `score` has not run for this night.
        GateError: under the floor; nothing may be published.
    """
    scores = tables.read("scores", ds).where("labeller = 'cascade' AND split = 'test'")
    rows = scores.where(F.col("tag_id") == "micro").collect()
    if not rows:
        raise GateError(f"gate {ds}: no scores of the cascade on test gold")
    precision, recall = rows[0]["precision_low"], rows[0]["recall_low"]
    floor = settings.gate
    line = (
        f"precision at least {precision:.3f} (floor {floor.floor_precision}), "
        f"recall at least {recall:.3f} (floor {floor.floor_recall})"
    )
    if precision < floor.floor_precision or recall < floor.floor_recall:
        give_verdict(tables, ds, "refused")
        raise GateError(
            f"gate {ds}: under the floor: {line}; nothing is published, and later nights leave these labels out; the "
            "quality report says what fell"
        )
    give_verdict(tables, ds, "passed")
    return line
