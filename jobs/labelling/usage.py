"""What asking the LLM cost, as the server counts it: kept a pass at a time, read back by `plan` and MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.contracts import load_contract
from jobs.llm.labelling import LabelPrompt
from jobs.storage import Tables

_QUERIES, _HITS = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"


def _total(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else first + second


@dataclass(frozen=True, slots=True)
class Spent:
    """Counts of one or several passes. `seconds`: wall clock; `prefix_*`: tokens, None where no server counts them.

    `conversations` counts one longer than the context once for each of its windows asked about.
    """

    conversations: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    prefix_queries: int | None = None
    prefix_hits: int | None = None

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.conversations + other.conversations,
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.seconds + other.seconds,
            _total(self.prefix_queries, other.prefix_queries),
            _total(self.prefix_hits, other.prefix_hits),
        )

    @property
    def hit_rate(self) -> float | None:
        """Share of prompt tokens that the server had in its prefix cache; None where it does not count them."""
        if not self.prefix_queries:
            return None
        return (self.prefix_hits or 0) / self.prefix_queries


def prefix_counts(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[int | None, int | None]:
    """(tokens looked up, tokens found) in the prefix cache between two readings of the server's counters.

    (None, None) where the server has no such counters, or was started anew in between.
    """
    if not {_QUERIES, _HITS} <= before.keys() & after.keys():
        return None, None
    queries, hits = after[_QUERIES] - before[_QUERIES], after[_HITS] - before[_HITS]
    return (int(queries), int(hits)) if queries >= 0 and hits >= 0 else (None, None)


def record(tables: Tables, ds: str, what: str, prompt: LabelPrompt, spent: Spent) -> None:
    """Keep what a pass of night `ds` cost."""
    row = asdict(spent) | {
        "what": what,
        "profile": prompt.profile.name,
        "model": prompt.profile.served_model_name,
        "prompt_hash": prompt.prompt_hash,
    }
    schema = StructType([f for f in load_contract("llm_usage").spark_schema() if f.name != "ds"])
    values = [tuple(row[f.name] for f in schema)]
    tables.append("llm_usage", tables.spark.createDataFrame(values, schema).coalesce(1), ds)


def spent_on(tables: Tables, ds: str) -> Spent:
    """All that was kept of night `ds`."""
    found = Spent()
    for row in tables.read_all("llm_usage").where(F.col("ds") == ds).collect():
        found += Spent(**{field.name: row[field.name] for field in fields(Spent)})
    return found


def usage_metrics(tables: Tables, ds: str) -> dict[str, float]:
    """Figures of night `ds` for MLflow, by name."""
    spent = spent_on(tables, ds)
    figures = {f"llm.{name}": value for name, value in asdict(spent).items()} | {"llm.prefix_hit_rate": spent.hit_rate}
    return {name: float(value) for name, value in figures.items() if value is not None}
