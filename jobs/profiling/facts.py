"""The facts that profiles are folded from, joined: who said what, when, and how far the tag is proven."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.errors import GateError
from jobs.storage import Tables

NO_TAGS = ("none", "cannot_tell")
UNPROVEN, MET = "unproven", "met"
_CONVERSATION = ["conversation_id", "conversation_ds"]


def contacts(tables: Tables, ds: str) -> DataFrame:
    """Conversations up to night `ds` with their customer, one row each.

    Columns: customer_id, party_key, conversation_id, conversation_ds, started_at, channel, advisor_id.

    Raises:
        InputError: night `ds` of `identities` was never written.
        GateError: a conversation's party has no customer.
    """
    conversations = tables.read_all("conversations", until=ds).select(
        "party_key",
        "conversation_id",
        F.col("ds").alias("conversation_ds"),
        "started_at",
        "channel",
        "advisor_id",
    )
    identities = tables.read("identities", ds).select("party_key", "customer_id")
    joined = conversations.join(identities, "party_key", "left")
    strangers = joined.where(F.col("customer_id").isNull()).count()
    if strangers:
        raise GateError(
            f"profile {ds}: {strangers} conversations belong to nobody in `identities` of this night: "
            f"run `ingest --ds {ds}` again, it resolves the ids of all nights before"
        )
    return joined


def newest_labels(tables: Tables, ds: str, without: Collection[str]) -> DataFrame:
    """Labels as of night `ds`: of every conversation those of the latest night that labelled it.

    Nights `without` count as if they had not labelled. `none` and `cannot_tell` count when the latest night is chosen,
    then they are left out.
    """
    labels = tables.read_all("labels", until=ds).where(~F.col("ds").isin(*without))
    latest = F.max("ds").over(Window.partitionBy(*_CONVERSATION))
    newest = labels.withColumn("latest", latest).where(F.col("ds") == F.col("latest"))
    return newest.where(~F.col("tag_id").isin(*NO_TAGS)).select(
        *_CONVERSATION, "tag_id", "confidence", "evidence", "parameters"
    )


def tag_quality(tables: Tables, ds: str) -> DataFrame:
    """(tag_id, quality) of the tags that were scored on night `ds`: the cascade's verdict on the test gold."""
    scores = tables.read_all("scores", until=ds).where(F.col("ds") == ds)
    judged = scores.where((F.col("labeller") == "cascade") & (F.col("split") == "test"))
    return judged.select("tag_id", F.coalesce("verdict", F.lit(UNPROVEN)).alias("quality"))


def tagged_contacts(
    tables: Tables, people: DataFrame, ds: str, *, without: Collection[str], withhold: bool
) -> DataFrame:
    """`contacts` joined with their newest labels and the quality of each tag, one row a conversation and tag.

    Args:
        tables: the warehouse.
        people: `contacts` of the same night.
        ds: the night.
        without: nights whose labels do not count.
        withhold: leave out tags that are not proven.
    """
    rows = (
        newest_labels(tables, ds, without)
        .join(people, _CONVERSATION)
        .join(F.broadcast(tag_quality(tables, ds)), "tag_id", "left")
        .withColumn("quality", F.coalesce("quality", F.lit(UNPROVEN)))
    )
    return rows.where(F.col("quality") == MET) if withhold else rows
