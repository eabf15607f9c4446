"""`customer_tags`, `customer_timeline` and `customer_profile` as folds over tagged conversations."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_QUOTES = 600  # characters of evidence a CRM's screen can show


def tag_history(tagged: DataFrame, ds: str, tag_days: int) -> DataFrame:
    """Rows of `customer_tags`: stretches of nights in which a customer said a tag.

    A tag said again at most `tag_days` nights later extends the stretch; one night more and it has lapsed.
    """
    said = Window.partitionBy("customer_id", "tag_id").orderBy("conversation_ds", "conversation_id")
    night = F.to_date("conversation_ds")
    gap = F.coalesce(F.datediff(night, F.lag(night).over(said)), F.lit(0))
    stretches = tagged.withColumn("stretch", F.sum((gap > tag_days).cast("int")).over(said))
    folded = stretches.groupBy("customer_id", "tag_id", "stretch").agg(
        F.min("conversation_ds").alias("valid_from"),
        F.max("conversation_ds").alias("last_seen"),
        F.count(F.lit(1)).cast("int").alias("times"),
        F.max("confidence").alias("confidence"),
        F.first("quality").alias("quality"),
    )
    lapse = F.date_format(F.date_add(F.to_date("last_seen"), tag_days + 1), "yyyy-MM-dd")
    return folded.withColumn("valid_to", F.when(lapse <= ds, lapse)).drop("stretch")


def timeline(tagged: DataFrame, moments: Sequence[str]) -> DataFrame:
    """Rows of `customer_timeline`: what was tagged with one of `moments`."""
    quotes = F.array_distinct(F.transform("evidence", lambda item: item["quote"]))
    happened_at = F.date_format("started_at", "yyyy-MM-dd'T'HH:mm:ss'Z'")
    return tagged.where(F.col("tag_id").isin(*moments)).select(
        "customer_id",
        "conversation_id",
        "conversation_ds",
        "tag_id",
        happened_at.alias("happened_at"),
        "channel",
        "confidence",
        F.nullif(F.substring(F.array_join(quotes, " … "), 1, _QUOTES), F.lit("")).alias("evidence"),
        "quality",
    )


def _newest(value: Column, *order: str) -> Column:
    """The value of the row that comes last in `order`; ties cannot happen where `order` ends in a key."""
    return F.max_by(value, F.struct(*order))


def _holding_tags(history: DataFrame) -> DataFrame:
    holding = history.where(F.col("valid_to").isNull())
    rows = F.sort_array(F.collect_list(F.struct(-F.datediff("last_seen", F.lit("1970-01-01")), "tag_id")))
    names = F.array_join(F.transform(rows, lambda item: item["tag_id"]), ",")
    return holding.groupBy("customer_id").agg(names.alias("tags"))


def profiles(
    people: DataFrame, *, history: DataFrame, events: DataFrame, intents: DataFrame, ds: str, tag_days: int
) -> DataFrame:
    """Rows of `customer_profile`: one for every customer who ever talked.

    Args:
        people: all contacts up to `ds`.
        history: rows of `tag_history`.
        events: rows of `timeline`.
        intents: rows of `investment_intents`.
        ds: the night.
        tag_days: for how many nights a pot of money counts as open after it was last spoken of.
    """
    base = people.groupBy("customer_id").agg(
        F.min("conversation_ds").alias("first_contact"),
        F.max("conversation_ds").alias("last_contact"),
        F.count(F.lit(1)).cast("int").alias("conversations"),
        F.array_join(F.sort_array(F.collect_set("channel")), ",").alias("channels"),
        _newest(F.col("advisor_id"), "started_at", "conversation_ds", "conversation_id").alias("advisor_id"),
    )
    order = ("happened_at", "conversation_ds", "conversation_id", "tag_id")
    last = events.groupBy("customer_id").agg(
        _newest(F.col("tag_id"), *order).alias("last_mot"),
        _newest(F.col("conversation_ds"), *order).alias("last_mot_at"),
    )
    open_since = F.date_sub(F.to_date(F.lit(ds)), tag_days)
    opened = (
        intents.where(F.to_date("last_seen") >= open_since)
        .groupBy("customer_id")
        .agg(F.count(F.lit(1)).cast("int").alias("open_intents"))
    )
    joined = base
    for part in (_holding_tags(history), opened, last):
        joined = joined.join(part, "customer_id", "left")
    return joined.withColumn("tags", F.coalesce("tags", F.lit(""))).withColumn(
        "open_intents", F.coalesce("open_intents", F.lit(0))
    )
