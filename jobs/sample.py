"""Stage sample: conversations that stand for a window of nights, for the LLM to learn the business from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import GateError
from jobs.labelling.decide import NONE
from jobs.labelling.outcomes import outcomes_of
from jobs.sampling.choose import allocate, choose
from jobs.sampling.essence import essence, letters, signatures
from jobs.sampling.units import draw
from jobs.settings import Settings
from jobs.storage import Tables, check_ds
from jobs.students import induction_embedder
from jobs.taxonomies.store import latest_version, versions_asking_all

_CANDIDATES = 8
"""Per conversation wanted, so many different things said are embedded; never a whole population."""

_FEWEST_CANDIDATES = 1_600
"""And at least so many, a minute of embedding: the more are compared, the rarer the wish that is found."""

_NO_TAG = "no tag"
"""What the name of a stratum of unexplained conversations ends with."""


def _untagged(tables: Tables, settings: Settings, first: str, ds: str) -> DataFrame:
    """conversation_ds, conversation_id, untagged: those that were labelled since `first` and that no tag explains.

    No tag of the latest version, as in `induce`: what one that exists by now may explain calls for no new one.
    """
    asking = versions_asking_all(settings, latest_version(settings).taxonomy)
    outcomes, labels = (
        tables.read_all(name, until=ds).where(F.col("ds") >= first) for name in ("label_outcomes", "labels")
    )
    found = outcomes_of(outcomes, labels, asking).where(F.col("outcome") == NONE)
    return found.select("conversation_ds", "conversation_id").distinct().withColumn("untagged", F.expr("true"))


def _population(tables: Tables, settings: Settings, first: str, ds: str) -> DataFrame:
    """conversation_ds, conversation_id, stratum (channel and night, and where no tag explains it, that), said."""
    window = tables.read_all("conversations", until=ds).where(F.col("ds") >= first)
    window = window.withColumnRenamed("ds", "conversation_ds")
    window = window.join(_untagged(tables, settings, first, ds), ["conversation_ds", "conversation_id"], "left")
    said = F.transform(F.filter("turns", lambda turn: turn["speaker"] == "customer"), lambda turn: turn["text"])
    return window.select(
        "conversation_ds",
        "conversation_id",
        F.concat_ws(" ", "channel", "conversation_ds", F.when(F.col("untagged"), F.lit(_NO_TAG))).alias("stratum"),
        said.alias("said"),
    )


def quotas(units: Mapping[str, int], size: int) -> dict[str, int]:
    """How many each stratum should give, by the different things said in it.

    With more strata than places not every one can give one. Unexplained conversations, few in each of many strata,
    would then give none at all: they have their share together, and of either kind the largest strata give.
    """
    if size >= len(units):
        return allocate(units, size)
    kinds = ({s: n for s, n in units.items() if s.endswith(_NO_TAG) == unexplained} for unexplained in (False, True))
    parts = {str(place): part for place, part in enumerate(kinds) if part}
    shares = allocate({place: sum(part.values()) for place, part in parts.items()}, size)
    return {stratum: n for place, part in parts.items() for stratum, n in allocate(part, shares[place]).items()}


def _left_out(counts: Mapping[str, int], sampled: set[str]) -> str:
    """Which part of the population others stand for, as the end of a line; empty where every stratum is sampled."""
    missing = [count for stratum, count in counts.items() if stratum not in sampled]
    if not missing:
        return ""
    share = sum(missing) / sum(counts.values())
    return (
        f"; {len(missing)} of {len(counts)} strata, {share:.1%} of the conversations, gave none: what is nearest of "
        "the others stands for theirs"
    )


def _choose(settings: Settings, candidates: pd.DataFrame, units: dict[str, int]) -> pd.DataFrame:
    size = settings.sample.size
    texts = [essence(list(said)) or "\n".join(said) for said in candidates["said"]]
    vectors = induction_embedder(settings).embed(texts)
    return choose(candidates, vectors, signatures([letters(t) for t in texts]), quotas(units, size), size)


def sample(tables: Tables, settings: Settings, ds: str) -> str:
    """Write `samples` of night `ds`; returns a line that says what was chosen.

    Strata are channel by night, and those conversations of each that no tag explains are strata of their own. Every
    stratum gives its share of the *different* things said, so that a mass message does not fill the sample. The line
    also says what part of the population lies in strata that gave none.

    Raises:
        GateError: there is no conversation in the window.
    """
    wanted = settings.sample
    first = (date.fromisoformat(check_ds(ds)) - timedelta(days=wanted.window_days - 1)).isoformat()
    population = _population(tables, settings, first, ds)
    counts = {r["stratum"]: int(r["count"]) for r in population.groupBy("stratum").count().collect()}
    if not counts:
        raise GateError(f"sample {ds}: no conversation since {first}; run ingest first")
    total = sum(counts.values())
    drawn = draw(population, total, max(_FEWEST_CANDIDATES, _CANDIDATES * wanted.size), wanted.seed)
    chosen = _choose(settings, drawn.candidates, dict(drawn.units)).drop(columns="said")
    chosen["stratum_population"] = chosen["stratum"].map(counts)
    chosen["share"] = chosen["weight"] / total
    rows = tables.write("samples", tables.spark.createDataFrame(chosen), ds)
    return (
        f"{rows} of {total} conversations since {first}, from {len(counts)} strata; {sum(drawn.units.values())} say "
        f"different things, {len(drawn.candidates)} of them were compared; the heaviest stands for "
        f"{chosen['share'].max():.1%}, the median for {chosen['share'].median():.2%}"
        f"{_left_out(counts, set(chosen['stratum']))}"
    )
