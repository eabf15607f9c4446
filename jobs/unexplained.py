"""Stage unexplained: the share of a night's conversations that no tag explains, and whether it is time for new tags.

No tag explains what was answered `none`; of what was answered `cannot_tell` nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import functions as F

from jobs.labelling.decide import NONE
from jobs.labelling.outcomes import outcomes_of
from jobs.metrics import wilson
from jobs.settings import Settings
from jobs.storage import Tables

SKIP = 99
"""The exit status at which Airflow skips a task and what waits for it."""


@dataclass(frozen=True, slots=True)
class Unexplained:
    """To `untagged` of `labelled` conversations no tag applies; `low` is the lower bound of their share (Wilson).

    `due`: the bound lies above `sample.unexplained`, so that a small or an odd night alone does not ask for new tags.
    """

    labelled: int
    untagged: int
    low: float
    threshold: float

    @property
    def due(self) -> bool:
        """Whether a taxonomy is to be induced with these conversations."""
        return self.low > self.threshold

    def __str__(self) -> str:
        share = self.untagged / self.labelled if self.labelled else 0.0
        so = "above it: new tags are looked for" if self.due else "not above it"
        return (
            f"no tag applies to {self.untagged} of {self.labelled} labelled conversations ({share:.0%}, at least "
            f"{self.low:.0%}); the threshold is {self.threshold:.0%}, {so}"
        )


def unexplained(tables: Tables, settings: Settings, ds: str) -> Unexplained:
    """Count on night `ds`; conversations that wait for the LLM do not count.

    Raises:
        InputError: the night was not labelled.
    """
    found = outcomes_of(tables.read("label_outcomes", ds), tables.read("labels", ds))
    row = found.agg(F.count("*").alias("n"), F.count_if(F.col("outcome") == NONE).alias("none")).collect()[0]
    count, none = int(row["n"]), int(row["none"])
    low = wilson(none, count, settings.gate.confidence).low
    return Unexplained(count, none, low, settings.sample.unexplained)
