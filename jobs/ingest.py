"""Stage ingest: a night's raw chats become `conversations`, `quarantine`, `identity_links` and `identities`.

Personal data is redacted here, once. Rows in = rows out + rows quarantined, or the stage fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.contracts import load_contract
from jobs.errors import GateError
from jobs.ingestion.identities import ended_links, read_links, resolve, self_links
from jobs.ingestion.parse import parsed_records
from jobs.ingestion.source import left_alone
from jobs.privacy.pseudonym import pseudonym_secret
from jobs.settings import Settings
from jobs.storage import Tables, check_ds


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Counts of one night, the names of files in its folder that are not read, and links that the directory ended."""

    read: int
    conversations: int
    quarantined: int
    left_alone: tuple[str, ...] = ()
    ended_links: int = 0


def _links(good: DataFrame, settings: Settings, ds: str) -> pd.DataFrame:
    """Rows of `identity_links`: the night's parties, and the customer directory."""
    parties = good.select("party_key", "channel").distinct().collect()
    rows = self_links((row["party_key"], row["channel"]) for row in parties)
    if settings.source.identities:
        path = settings.resolve(settings.source.identities.replace("{ds}", ds))
        rows += read_links(path, ds, pseudonym_secret(settings))
    columns = list(load_contract("identity_links").column_names)
    frame = pd.DataFrame(rows, columns=columns[1:]).drop_duplicates(["party_key", "linked_key"])
    frame.insert(0, "ds", ds)
    return frame[columns]


def _nothing_came_through(parsed: DataFrame, ds: str, reasons: dict[str, int]) -> GateError:
    first = parsed.orderBy("source", "position").first()
    place = "" if first is None else f"; the first lies at {first['position']} of {first['source']}: {first['detail']}"
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "no rows at all"
    return GateError(
        f"ingest {ds}: no conversation came through ({counts}{place}); the tables keep what they had of this night"
    )


def ingest(tables: Tables, settings: Settings, ds: str) -> IngestResult:
    """Run the stage for night `ds`. All that can be wrong with the input is found before a table is written.

    Raises:
        InputError: the source, the customer directory or the settings cannot be used.
        GateError: not one conversation came through, or rows were lost.
    """
    check_ds(ds)
    parsed = parsed_records(tables.spark, settings, ds).persist(StorageLevel.DISK_ONLY)
    try:
        counts = {row["reason"]: row["count"] for row in parsed.groupBy("reason").count().collect()}
        read = sum(counts.values())
        if not counts.pop(None, 0):
            raise _nothing_came_through(parsed, ds, counts)
        good = parsed.where(F.col("reason").isNull())
        links = _links(good, settings, ds)
        quarantined = tables.write("quarantine", parsed.where(F.col("reason").isNotNull()), ds)
        conversations = tables.write("conversations", good, ds)
        if read != conversations + quarantined:
            raise GateError(
                f"ingest {ds}: {read} rows read, {conversations} kept, {quarantined} quarantined: rows lost"
            )
        tables.write("identity_links", tables.spark.createDataFrame(links), ds)
        known = tables.read_all("identity_links", until=ds).toPandas()
        identities = resolve(known)
        tables.write("identities", tables.spark.createDataFrame(identities), ds)
    finally:
        parsed.unpersist()
    return IngestResult(read, conversations, quarantined, tuple(left_alone(settings, ds)), ended_links(known))
