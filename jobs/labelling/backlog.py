"""Conversations of earlier nights that still wait for the LLM, or that a person wants to be asked about again."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.storage import Tables

CANDIDATE = ("conversation_id", "conversation_ds", "started_at", "content_hash", "turns", "attempts")


def candidates(tables: Tables, ds: str) -> DataFrame:
    """What night `ds` labels: its own conversations, and those whose newest outcome before it is `pending`.

    A dead one is picked up again where a person replayed the dead letters of the night it died on. What is asked in
    vain then lets it die on the later night, so each replay is picked up once.

    Columns: conversation_id, conversation_ds, started_at, content_hash, turns, attempts (nights that tried before).
    """
    own = tables.read("conversations", ds).withColumn("conversation_ds", F.lit(ds)).withColumn("attempts", F.lit(0))
    newest = Window.partitionBy("conversation_id", "conversation_ds").orderBy(F.col("ds").desc())
    waiting = (
        tables.read_all("label_outcomes")
        .where(F.col("ds") < ds)
        .withColumn("rank", F.row_number().over(newest))
        .where("rank = 1 AND status IN ('pending', 'dead')")
        .select("conversation_id", "conversation_ds", "attempts", "status", F.col("ds").alias("outcome_ds"))
    )
    replays = tables.read_all("dead_letter_replays").select(
        F.col("conversation_hash").alias("content_hash"), F.col("ds").alias("outcome_ds"), F.lit(True).alias("replayed")
    )
    earlier = tables.read_all("conversations").where(F.col("ds") < ds).withColumnRenamed("ds", "conversation_ds")
    again = (
        earlier.join(F.broadcast(waiting), ["conversation_id", "conversation_ds"])
        .join(replays.distinct(), ["content_hash", "outcome_ds"], "left")
        .where((F.col("status") == "pending") | F.col("replayed"))
    )
    return own.select(*CANDIDATE).unionByName(again.select(*CANDIDATE))
