"""Rates that former nights measured: what a window and a request cost on this model and profile."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyspark.sql import functions as F

from jobs.labelling.usage import Spent
from jobs.llm.labelling import LabelPrompt
from jobs.storage import Tables

NIGHTS = 7
"""Rates are the totals of this many newest measured nights."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Averages over measured nights. `cached_share`: of prompt tokens; `seconds_per_request`: wall clock.

    `same_prompt`: every figure comes from the prompt of today.
    """

    nights: tuple[str, ...]
    requests_measured: int
    same_prompt: bool
    requests_per_window: float
    prompt_tokens_per_request: float
    cached_share: float
    output_tokens_per_request: float
    seconds_per_request: float


def measured_rates(tables: Tables, ds: str, prompt: LabelPrompt) -> Rates | None:
    """What nights up to `ds` measured on this model and profile, with today's prompt where there is such a night.

    None where nothing was measured.
    """
    profile = prompt.profile
    frame = tables.read_all("llm_usage", until=ds)
    frame = frame.where((F.col("model") == profile.served_model_name) & (F.col("profile") == profile.name))
    rows = [row.asDict() for row in frame.where("requests > 0 AND conversations > 0 AND prompt_tokens > 0").collect()]
    same = [row for row in rows if row["prompt_hash"] == prompt.prompt_hash]
    chosen = same or rows
    if not chosen:
        return None
    nights = tuple(sorted({row["ds"] for row in chosen})[-NIGHTS:])
    total = Spent()
    for row in chosen:
        if row["ds"] in nights:
            total += Spent(**{field.name: row[field.name] for field in fields(Spent)})
    return Rates(
        nights,
        total.requests,
        bool(same),
        total.requests / total.conversations,
        total.prompt_tokens / total.requests,
        total.cached_tokens / total.prompt_tokens if total.hit_rate is None else total.hit_rate,
        total.output_tokens / total.requests,
        total.seconds / total.requests,
    )
