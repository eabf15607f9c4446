"""What came out of labelled conversations: the one place that tells "no tag applies" from "nobody could tell"."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.labelling.decide import CANNOT_TELL, NONE

TAGGED, UNDECIDED = "tagged", "undecided"
KEY = ("ds", "conversation_id", "conversation_ds")


def is_none(versions: Collection[int]) -> Column:
    """On rows of `labels`: no tag applies, asked under one of these versions of the taxonomy.

    Any other `none` says nothing about a tag that came, or was redefined, afterwards.
    """
    return (F.col("tag_id") == NONE) & F.col("taxonomy_version").isin(*versions)


def outcomes_of(outcomes: DataFrame, labels: DataFrame, versions: Collection[int] | None = None) -> DataFrame:
    """(ds, conversation_id, conversation_ds, outcome) of every labelled conversation, from `label_outcomes`, `labels`.

    `outcome`: `tagged`; `none`, where every tag was decided and none applies; else `undecided`, where the LLM could not
    tell. What waits for the LLM or was given up is left out, though it may have tags. With `versions`, `none` counts
    only as `is_none` says, else as `undecided`; without, for nights on their own, as the night's taxonomy had it.
    """
    labelled = outcomes.where(F.col("status") == "labelled").select(*KEY)
    tag, none = F.col("tag_id"), F.col("tag_id") == NONE if versions is None else is_none(versions)
    given = labels.groupBy(*KEY).agg(F.max(~tag.isin(NONE, CANNOT_TELL)).alias("tagged"), F.max(none).alias("none"))
    outcome = F.when(F.col("tagged"), TAGGED).when(F.col("none"), NONE).otherwise(UNDECIDED)
    return labelled.join(given, list(KEY), "left").select(*KEY, outcome.alias("outcome"))
