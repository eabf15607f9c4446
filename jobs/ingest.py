"""Stage ingest: a night's raw chats become `conversations`, `quarantine`, `identity_links` and `identities`.

Personal data is redacted here, once. Rows in = rows out + rows quarantined, or the stage fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.contracts import load_contract
from jobs.errors import GateError
from jobs.ingestion.identities import read_links, resolve, self_links
from jobs.ingestion.record import RecordError, RecordLimits, parse_record, raw_hash
from jobs.ingestion.source import read_raw
from jobs.privacy.pseudonym import pseudonym_secret
from jobs.settings import Settings
from jobs.storage import Tables, check_ds

_PARSED = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("bytes", pa.int64()),
        ("raw_hash", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("conversation_id", pa.string()),
        ("channel", pa.string()),
        ("party_key", pa.string()),
        ("advisor_id", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("lang", pa.string()),
        ("turns", pa.list_(pa.struct([("turn", pa.int32()), ("speaker", pa.string()), ("text", pa.string())]))),
        ("n_turns", pa.int32()),
        ("content_hash", pa.string()),
        ("redactions", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Counts of one night."""

    read: int
    conversations: int
    quarantined: int


def _parser(ds: str, limits: RecordLimits) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = []
            for entry in batch.to_pylist():
                raw = entry.pop("raw")
                row = entry | {"bytes": len(raw), "raw_hash": raw_hash(raw)}
                try:
                    row |= parse_record(raw, ds, limits)
                except RecordError as error:
                    row |= {"reason": error.reason, "detail": error.detail, "conversation_id": error.conversation_id}
                rows.append(row)
            yield pa.RecordBatch.from_pylist(rows, schema=_PARSED)

    return parse


def parsed_records(spark: SparkSession, settings: Settings, ds: str) -> DataFrame:
    """Every raw record of night `ds`: parsed, or with a `reason` why not; repeated ids keep their first record."""
    limits = RecordLimits(
        settings.source.max_turn_chars, settings.source.max_conversation_chars, pseudonym_secret(settings)
    )
    parsed = read_raw(spark, settings, ds).mapInArrow(_parser(ds, limits), from_arrow_schema(_PARSED))
    good = F.col("reason").isNull()
    first = F.row_number().over(Window.partitionBy("conversation_id", good).orderBy("source", "position"))
    repeated = good & (first > 1)
    return (
        parsed.withColumn("repeated", repeated)
        .withColumn("reason", F.when(F.col("repeated"), F.lit("repeated_id")).otherwise(F.col("reason")))
        .withColumn("detail", F.when(F.col("repeated"), F.lit("the first one was kept")).otherwise(F.col("detail")))
        .drop("repeated")
    )


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
