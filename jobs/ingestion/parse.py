"""A night's raw records parsed by Spark, good and bad ones side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.arrow_tasks import ArrowTask, map_in_arrow
from jobs.ingestion.record import RecordError, RecordLimits, parse_record, raw_hash
from jobs.ingestion.source import read_raw
from jobs.privacy.pseudonym import pseudonym_secret
from jobs.settings import Settings

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


def _parser(ds: str, limits: RecordLimits) -> ArrowTask:
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
    parsed = map_in_arrow(read_raw(spark, settings, ds), _parser(ds, limits), _PARSED)
    good = F.col("reason").isNull()
    first = F.row_number().over(Window.partitionBy("conversation_id", good).orderBy("source", "position"))
    repeated = good & (first > 1)
    return (
        parsed.withColumn("repeated", repeated)
        .withColumn("reason", F.when(F.col("repeated"), F.lit("repeated_id")).otherwise(F.col("reason")))
        .withColumn("detail", F.when(F.col("repeated"), F.lit("the first one was kept")).otherwise(F.col("detail")))
        .drop("repeated")
    )
