"""What came out of labelled conversations: the one place that tells "no tag applies" from "nobody could tell"."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.labelling.decide import CANNOT_TELL, NONE

TAGGED, UNDECIDED = "tagged", "undecided"
KEY = ("ds", "conversation_id", "conversation_ds")


def outcomes_of(outcomes: DataFrame, labels: DataFrame) -> DataFrame:
    """(ds, conversation_id, conversation_ds, outcome) of every labelled conversation, from `label_outcomes`, `labels`.

    `outcome`: `tagged`; `none`, where every tag was decided and none applies; else `undecided`, where the LLM could not
    tell. What waits for the LLM or was given up is left out, though it may have tags.
    """
    labelled = outcomes.where(F.col("status") == "labelled").select(*KEY)
    tag = F.col("tag_id")
    given = labels.groupBy(*KEY).agg(
        F.max(~tag.isin(NONE, CANNOT_TELL)).alias("tagged"), F.max(tag == NONE).alias("none")
    )
    outcome = F.when(F.col("tagged"), TAGGED).when(F.col("none"), NONE).otherwise(UNDECIDED)
    return labelled.join(given, list(KEY), "left").select(*KEY, outcome.alias("outcome"))
