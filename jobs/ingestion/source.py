"""Raw records of a night from JSON Lines, Parquet or JDBC, each with where it lies in its source."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from jobs.errors import InputError
from jobs.settings import Settings

RAW_DDL = "source string, position bigint, raw binary"
_SPLIT_BYTES = 64 * 1024 * 1024
_BATCH_LINES = 2_000


@dataclass(frozen=True)
class _Range(InputPartition):
    """A stretch of a file: the lines that begin in [start, end)."""

    path: str
    name: str
    start: int
    end: int


class _LineReader(DataSourceReader):
    def __init__(self, options: dict[str, str]) -> None:
        self._uri = options["path"]

    def partitions(self) -> Sequence[_Range]:
        filesystem, root = fs.FileSystem.from_uri(self._uri)
        info = filesystem.get_file_info(root)
        files = (
            [info] if info.type == fs.FileType.File else filesystem.get_file_info(fs.FileSelector(root, recursive=True))
        )
        return [
            _Range(entry.path, entry.base_name, start, min(start + _SPLIT_BYTES, entry.size))
            for entry in sorted(files, key=lambda e: str(e.path))
            if entry.type == fs.FileType.File and entry.base_name.endswith((".jsonl", ".json"))
            for start in range(0, max(entry.size, 1), _SPLIT_BYTES)
        ]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        if not isinstance(partition, _Range):
            raise TypeError(f"not a partition of this source: {partition!r}")
        filesystem, _ = fs.FileSystem.from_uri(self._uri)
        rows: list[tuple[int, bytes]] = []
        with filesystem.open_input_file(partition.path) as handle:
            # A line belongs to the stretch it begins in: step back one byte and drop what is left of the line before.
            position = max(partition.start - 1, 0)
            stream = io.BufferedReader(handle)
            stream.seek(position)
            if partition.start:
                position += len(stream.readline())
            while position < partition.end:
                line = stream.readline()
                if not line:
                    break
                if line.strip():
                    rows.append((position, line.rstrip(b"\r\n")))
                position += len(line)
                if len(rows) >= _BATCH_LINES:
                    yield _batch(partition.name, rows)
                    rows = []
        if rows:
            yield _batch(partition.name, rows)


def _batch(name: str, rows: list[tuple[int, bytes]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "source": pa.array([name] * len(rows), pa.string()),
            "position": pa.array([position for position, _ in rows], pa.int64()),
            "raw": pa.array([line for _, line in rows], pa.binary()),
        }
    )


class JsonLinesSource(DataSource):
    """Spark data source `dongcha_jsonl`: lines as bytes with their offset, so that bad encodings are seen as such."""

    @classmethod
    def name(cls) -> str:
        """Short name for `spark.read.format`."""
        return "dongcha_jsonl"

    def schema(self) -> str:
        """Spark DDL of the rows."""
        return RAW_DDL

    def reader(self, schema: Any) -> DataSourceReader:
        """Reader over the `path` option, a folder or a file, any file system that PyArrow knows."""
        return _LineReader(dict(self.options))


def read_raw(spark: SparkSession, settings: Settings, ds: str) -> DataFrame:
    """Raw records of night `ds`: columns source, position, raw (one JSON object as bytes).

    Raises:
        InputError: the source of this night does not exist or its settings are incomplete.
    """
    source = settings.source
    if source.kind == "jdbc":
        return _as_json(_read_jdbc(spark, settings, ds), source.jdbc_table or "")
    location = source.path.format(ds=ds)
    if "://" not in location:
        path = settings.resolve(location)
        if not path.exists():
            raise InputError(f"no chats for {ds}: {path} does not exist (source.path in the settings)")
        location = path.as_uri()
    if source.kind == "parquet":
        return _as_json(spark.read.parquet(location), Path(location).name)
    spark.dataSource.register(JsonLinesSource)
    return spark.read.format("dongcha_jsonl").load(location)


def _read_jdbc(spark: SparkSession, settings: Settings, ds: str) -> DataFrame:
    source = settings.source
    if not source.jdbc_url or not source.jdbc_table:
        raise InputError("source.kind is jdbc: set source.jdbc_url and source.jdbc_table")
    reader = spark.read.format("jdbc").option("url", source.jdbc_url).option("dbtable", source.jdbc_table)
    if source.jdbc_driver:
        reader = reader.option("driver", source.jdbc_driver)
    return reader.load().where(F.col("ds").cast("string") == ds).drop("ds")


def _as_json(frame: DataFrame, name: str) -> DataFrame:
    """Rows of a table as the JSON objects that `parse_record` reads; a text column `turns` may hold JSON."""
    if "turns" in frame.columns and dict(frame.dtypes)["turns"] == "string":
        turns = "from_json(turns, 'array<struct<speaker:string,text:string>>')"
        frame = frame.withColumn("turns", F.expr(turns))
    return frame.select(
        F.lit(name).alias("source"),
        F.monotonically_increasing_id().alias("position"),
        F.encode(F.to_json(F.struct(*frame.columns)), "UTF-8").alias("raw"),
    )


def nights_of_window(settings: Settings, ds: str) -> list[str]:
    """Nights up to `ds` within `sample.window_days` whose source folder exists, oldest first, `ds` always last.

    JDBC sources are asked for `ds` alone: their nights cannot be listed without reading the table.
    """
    last = date.fromisoformat(ds)
    days = [(last - timedelta(days=back)).isoformat() for back in range(settings.sample.window_days - 1, 0, -1)]
    if settings.source.kind == "jdbc" or "://" in settings.source.path:
        return [ds]
    return [day for day in days if settings.resolve(settings.source.path.format(ds=day)).exists()] + [ds]
