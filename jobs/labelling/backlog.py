"""Conversations of earlier nights that still wait for the LLM."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.storage import Tables

CANDIDATE = ("conversation_id", "conversation_ds", "content_hash", "turns", "attempts")


def candidates(tables: Tables, ds: str) -> DataFrame:
    """What night `ds` labels: its own conversations, and those whose newest outcome before it is `pending`.

    Columns: conversation_id, conversation_ds, content_hash, turns, attempts (nights that tried before).
    """
    own = tables.read("conversations", ds).withColumn("conversation_ds", F.lit(ds)).withColumn("attempts", F.lit(0))
    newest = Window.partitionBy("conversation_id", "conversation_ds").orderBy(F.col("ds").desc())
    waiting = (
        tables.read_all("label_outcomes")
        .where(F.col("ds") < ds)
        .withColumn("rank", F.row_number().over(newest))
        .where("rank = 1 AND status = 'pending'")
        .select("conversation_id", "conversation_ds", "attempts")
    )
    earlier = tables.read_all("conversations").where(F.col("ds") < ds).withColumnRenamed("ds", "conversation_ds")
    again = earlier.join(F.broadcast(waiting), ["conversation_id", "conversation_ds"])
    return own.select(*CANDIDATE).unionByName(again.select(*CANDIDATE))
