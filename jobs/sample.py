"""Stage sample: conversations that stand for a window of nights, for the LLM to learn the business from."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import Window
from pyspark.sql import functions as F

from jobs.errors import GateError
from jobs.sampling import stratified_diverse
from jobs.settings import Settings
from jobs.storage import Tables, check_ds
from jobs.student.embed import Embedder
from jobs.students import embedding_cache

_CANDIDATES = 4
"""Per conversation wanted, so many random ones of its stratum are embedded; never a whole population."""


def sample(tables: Tables, settings: Settings, ds: str) -> str:
    """Write `samples` of night `ds`; strata are channel by night. Returns a line that says what was chosen.

    Raises:
        GateError: there is no conversation in the window.
    """
    wanted = settings.sample
    first = (date.fromisoformat(check_ds(ds)) - timedelta(days=wanted.window_days - 1)).isoformat()
    window = tables.read_all("conversations", until=ds).where(F.col("ds") >= first)
    # The same mass message sent to thousands is one thing to learn.
    once = Window.partitionBy("content_hash").orderBy("ds", "conversation_id")
    pool = window.withColumn("stratum", F.concat_ws(" ", "channel", "ds"))
    counts = {r["stratum"]: int(r["count"]) for r in pool.groupBy("stratum").count().collect()}
    if not counts:
        raise GateError(f"sample {ds}: no conversation since {first}; run ingest first")
    limit = max(20, _CANDIDATES * wanted.size // len(counts))
    shuffled = Window.partitionBy("stratum").orderBy(F.xxhash64("conversation_id", F.lit(wanted.seed)))
    said = F.transform(F.filter("turns", lambda t: t["speaker"] == "customer"), lambda t: t["text"])
    candidates = (
        pool.withColumn("copy", F.row_number().over(once))
        .where("copy = 1")
        .withColumn("place", F.row_number().over(shuffled))
        .where(F.col("place") <= limit)
        .select(
            "conversation_id", F.col("ds").alias("conversation_ds"), "stratum", F.concat_ws("\n", said).alias("text")
        )
        .orderBy("stratum", "conversation_id")
        .toPandas()
    )
    embedder = Embedder(embedding_cache(settings), settings.student.threads)
    vectors = embedder.embed(candidates["text"].tolist())
    chosen = stratified_diverse(candidates, counts, vectors, wanted.size, wanted.seed).drop(columns="text")
    rows = tables.write("samples", tables.spark.createDataFrame(chosen), ds)
    return f"{rows} of {sum(counts.values())} conversations since {first}, from {len(counts)} strata"
