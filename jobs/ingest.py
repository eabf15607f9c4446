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
from jobs.ingestion.identities import read_links, resolve, self_links
from jobs.ingestion.parse import parsed_records
from jobs.privacy.pseudonym import pseudonym_secret
from jobs.settings import Settings
from jobs.storage import Tables, check_ds


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Counts of one night."""

    read: int
    conversations: int
    quarantined: int


def _write_identities(tables: Tables, conversations: DataFrame, settings: Settings, ds: str) -> None:
    spark = tables.spark
    parties = conversations.select("party_key", "channel").distinct().collect()
    rows = self_links((row["party_key"], row["channel"]) for row in parties)
    if settings.source.identities:
        path = settings.resolve(settings.source.identities.format(ds=ds))
        rows += read_links(path, ds, pseudonym_secret(settings))
    columns = list(load_contract("identity_links").column_names)
    frame = pd.DataFrame(rows, columns=columns[1:]).drop_duplicates(["party_key", "linked_key"])
    frame.insert(0, "ds", ds)
    tables.write("identity_links", spark.createDataFrame(frame[columns]), ds)
    identities = resolve(tables.read_all("identity_links", until=ds).toPandas())
    tables.write("identities", spark.createDataFrame(identities), ds)


def ingest(tables: Tables, settings: Settings, ds: str) -> IngestResult:
    """Run the stage for night `ds`.

    Raises:
        InputError: the source or the settings cannot be used.
        GateError: not one conversation came through, or rows were lost.
    """
    check_ds(ds)
    parsed = parsed_records(tables.spark, settings, ds).persist(StorageLevel.DISK_ONLY)
    try:
        read = parsed.count()
        bad = parsed.where(F.col("reason").isNotNull())
        good = parsed.where(F.col("reason").isNull())
        quarantined = tables.write("quarantine", bad, ds)
        conversations = tables.write("conversations", good, ds)
        if read != conversations + quarantined:
            raise GateError(
                f"ingest {ds}: {read} rows read, {conversations} kept, {quarantined} quarantined: rows lost"
            )
        if conversations == 0:
            raise GateError(
                f"ingest {ds}: no conversation came through ({read} rows read, {quarantined} quarantined): "
                "see the reasons in table quarantine"
            )
        _write_identities(tables, good, settings, ds)
    finally:
        parsed.unpersist()
    return IngestResult(read, conversations, quarantined)
