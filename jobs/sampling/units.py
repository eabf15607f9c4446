"""The population in Spark: conversations that say nearly the same become one unit, and a bounded draw of units.

Nothing but counts, the commonest mass messages and the draw leaves Spark. A mass message, a menu or a signature is a
long text that comes in many conversations; it is no one's wish and is left out, unless nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.arrow_tasks import map_in_arrow
from jobs.sampling.choose import allocate
from jobs.sampling.essence import PLACEHOLDER, bands, essence, letters, signatures

_MASS_LETTERS = 24
_EDGE = 8
"""Salutations stand before and names after what a mass message says: so many letters there do not count."""

_MASS_SHARE = 0.001
_FEWEST = 5
_KEYS = ["conversation_ds", "conversation_id"]
_MARKED = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("conversation_ds", pa.string()),
        ("stratum", pa.string()),
        ("content", pa.int64()),
        ("bands", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True, slots=True)
class Draw:
    """Candidates and what they were drawn from.

    `candidates`: conversation_id, conversation_ds, stratum, copies (conversations of its unit), weight (conversations
    it was drawn for; sums to the population), said (list of the customer's turns without mass messages).
    `units`: different things said, per stratum.
    """

    candidates: pd.DataFrame
    units: Mapping[str, int]


def _fingerprint(text: Column) -> Column:
    """The hash of a long text's letters without its edges; null for a short text."""
    bare = F.regexp_replace(F.regexp_replace(F.lower(text), PLACEHOLDER, ""), r"[^\p{L}]+", "")
    middle = F.xxhash64(bare.substr(F.lit(_EDGE + 1), F.length(bare) - 2 * _EDGE))
    return F.when((F.length(text) >= _MASS_LETTERS) & (F.length(bare) >= _MASS_LETTERS), middle)


def without_mass_messages(population: DataFrame, size: int) -> DataFrame:
    """`said` without the texts that one in a thousand conversations holds; untouched where nothing would be left.

    Args:
        population: conversation_id, conversation_ds, stratum, said (array of texts).
        size: conversations in it.
    """
    seen = population.select(F.explode(F.array_distinct(F.transform("said", _fingerprint))).alias("text"))
    often = seen.where("text IS NOT NULL").groupBy("text").count().where(F.col("count") >= _least(size))
    mass = sorted(int(row["text"]) for row in often.collect())
    if not mass:
        return population
    own = F.filter("said", lambda text: ~F.coalesce(_fingerprint(text).isin(mass), F.lit(False)))
    return population.withColumn("own", own).select(
        *_KEYS, "stratum", F.when(F.size("own") > 0, F.col("own")).otherwise(F.col("said")).alias("said")
    )


def _least(size: int) -> int:
    return max(_FEWEST, int(_MASS_SHARE * size))


def _mark(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What is said becomes hashes; content 0: nothing but courtesies."""
    for batch in batches:
        bare = [letters(essence(texts)) for texts in batch.column("said").to_pylist()]
        found = bands(signatures(bare))
        content = np.where([bool(text) for text in bare], found[:, 0] ^ found[:, 1] ^ found[:, 2], 0)
        columns = [batch.column(name) for name in _MARKED.names[:3]]
        lists = [row if text else [] for row, text in zip(found.tolist(), bare, strict=True)]
        arrays = [*columns, pa.array(content), pa.array(lists, pa.list_(pa.int64()))]
        yield pa.RecordBatch.from_arrays(arrays, schema=_MARKED)


def _units(marked: DataFrame, seed: int) -> DataFrame:
    """One row a unit: copies, the conversation that stands for it, and its place in the draw.

    A band that five or more conversations share makes them one unit; of several bands the commonest. Otherwise only
    equal texts are one. Places are exponential races (Efraimidis and Spirakis 2006): a unit of n conversations is drawn
    n times as early as a unit of one, as if conversations were drawn.
    """
    banded = marked.select(*_KEYS, F.explode("bands").alias("band"))
    common = banded.groupBy("band").count().where(F.col("count") >= _FEWEST)
    commonest = (
        banded.join(common, "band").groupBy(*_KEYS).agg(F.max(F.struct("count", "band"))["band"].alias("shared"))
    )
    named = marked.join(commonest, _KEYS, "left").withColumn("unit", F.coalesce("shared", "content"))
    first = F.struct(F.xxhash64(*_KEYS, F.lit(seed)).alias("place"), *_KEYS, "stratum")
    uniform = (F.shiftrightunsigned(F.xxhash64("unit", F.lit(seed)), 11) + F.lit(0.5)) / F.lit(2.0**53)
    return (
        named.groupBy("unit")
        .agg(F.count(F.lit(1)).alias("copies"), F.min(first).alias("first"))
        .select("unit", "copies", "first.conversation_ds", "first.conversation_id", "first.stratum")
        .withColumn("race", -F.log(uniform) / F.col("copies"))
    )


def drawn_for(copies: pd.Series[int], race: pd.Series[float], limit: int, population: int) -> pd.Series[float]:
    """How many conversations of its stratum each of the first `limit` units was drawn for; sums to `population`.

    Each stands for its own copies; what was not drawn is shared out by the Horvitz-Thompson estimate of it, the draw's
    threshold being the race of the first unit left out (Cohen and Kaplan 2007, "Summarizing data using bottom-k
    sketches").

    Args:
        copies: conversations of each unit, in the order of the race; may hold one unit more than `limit`.
        race: their places.
        limit: how many were wanted.
        population: conversations of all units of the stratum.
    """
    kept = copies.iloc[:limit].astype(float)
    if len(copies) <= limit:
        return kept
    with np.errstate(over="ignore"):
        unseen: pd.Series[float] = kept / np.expm1(kept * float(race.iloc[limit]))
    rest = population - kept.sum()
    return kept + rest * (unseen / unseen.sum() if unseen.sum() > 0 else kept / kept.sum())


def draw(population: DataFrame, size: int, wanted: int, seed: int) -> Draw:
    """About `wanted` units, every stratum its share and at least one; the same seed, the same draw on any partitions.

    Args:
        population: conversation_id, conversation_ds, stratum, said (array of the customer's texts).
        size: conversations in it.
        wanted: how many units to draw in all; as many as there are strata, where these are more.
        seed: decides the draw.
    """
    texts = without_mass_messages(population, size)
    marked = map_in_arrow(texts, _mark, _MARKED).persist(StorageLevel.DISK_ONLY)
    units = _units(marked, seed).persist(StorageLevel.DISK_ONLY)
    try:
        strata = units.groupBy("stratum").agg(F.count(F.lit(1)).alias("units"), F.sum("copies").alias("conversations"))
        counted = {row["stratum"]: (int(row["units"]), int(row["conversations"])) for row in strata.collect()}
        # A stratum without a candidate would be missing from the weights, and its conversations from every sample.
        limits = allocate({name: count for name, (count, _) in counted.items()}, max(wanted, len(counted)))
        bound = population.sparkSession.createDataFrame(sorted(limits.items()), "stratum string, wanted int")
        order = Window.partitionBy("stratum").orderBy("race", "unit")
        # One more than wanted: where the race of the first one left out stands decides the weights.
        found = (
            units.withColumn("place", F.row_number().over(order))
            .where(F.col("place") <= max(limits.values()) + 1)
            .join(F.broadcast(bound), "stratum")
            .where(F.col("place") <= F.col("wanted") + 1)
        )
        drawn = found.orderBy("stratum", "place").toPandas()
        drawn = _weighted(drawn, {name: count for name, (_, count) in counted.items()})
        keys = population.sparkSession.createDataFrame(drawn[_KEYS])
        said = texts.join(F.broadcast(keys), _KEYS).select(*_KEYS, "said").toPandas()
    finally:
        units.unpersist()
        marked.unpersist()
    return Draw(
        drawn.merge(said, on=_KEYS, validate="one_to_one"), {name: count for name, (count, _) in counted.items()}
    )


def _weighted(drawn: pd.DataFrame, conversations: Mapping[str, int]) -> pd.DataFrame:
    parts = []
    for stratum, part in drawn.groupby("stratum", sort=True):
        limit = int(part["wanted"].iloc[0])
        weight = drawn_for(part["copies"], part["race"], limit, conversations[str(stratum)])
        parts.append(part.iloc[:limit].assign(weight=weight))
    return pd.concat(parts, ignore_index=True).drop(columns=["unit", "race", "place", "wanted"])
