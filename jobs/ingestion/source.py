"""Raw records of a night from JSON Lines, Parquet or JDBC, each with where it lies in its source."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyarrow import fs
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from jobs.errors import InputError
from jobs.settings import Settings

RAW_DDL = "source string, position bigint, raw binary"
_SPLIT_BYTES = 64 * 1024 * 1024
_BATCH_LINES = 2_000


_LINES = (".jsonl", ".ndjson", ".json")
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True)
class _Range(InputPartition):
    """A stretch of a file: the lines that begin in [start, end), bytes after unpacking."""

    path: str
    name: str
    start: int
    end: int
    compression: str | None


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a night: `name` is its path within the night's folder."""

    path: str
    name: str
    size: int

    @property
    def compression(self) -> str | None:
        return _COMPRESSIONS.get(PurePosixPath(self.name).suffix.lower())

    @property
    def holds_lines(self) -> bool:
        name = self.name.lower()
        return (name.rpartition(".")[0] if self.compression else name).endswith(_LINES)

    def ranges(self) -> Iterator[_Range]:
        # Nobody can begin to unpack in the middle.
        if self.compression:
            yield _Range(self.path, self.name, 0, sys.maxsize, self.compression)
            return
        for start in range(0, max(self.size, 1), _SPLIT_BYTES):
            yield _Range(self.path, self.name, start, min(start + _SPLIT_BYTES, self.size), None)


def _files(uri: str) -> tuple[list[_File], list[str]]:
    """Files of lines under `uri`, and the names of those that are left alone.

    A file that `uri` itself names is taken as it is. Hidden files and folders (`.x`, `_x`) are no input, as for Spark:
    what is still being written lies there.
    """
    filesystem, root = fs.FileSystem.from_uri(uri)
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.File:
        return [_File(info.path, info.base_name, info.size)], []
    found = []
    for entry in filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True)):
        name = PurePosixPath(entry.path).relative_to(root)
        if entry.type == fs.FileType.File and not any(part.startswith((".", "_")) for part in name.parts):
            found.append(_File(entry.path, str(name), entry.size))
    found.sort(key=lambda file: file.name)
    return [f for f in found if f.holds_lines], [f.name for f in found if not f.holds_lines]


class _LineReader(DataSourceReader):
    def __init__(self, options: dict[str, str]) -> None:
        self._uri = options["path"]

    def partitions(self) -> Sequence[_Range]:
        return [part for file in _files(self._uri)[0] for part in file.ranges()]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        if not isinstance(partition, _Range):
            raise TypeError(f"not a partition of this source: {partition!r}")
        filesystem, _ = fs.FileSystem.from_uri(self._uri)
        rows: list[tuple[int, bytes]] = []
        with (
            filesystem.open_input_stream(partition.path, compression=partition.compression)
            if partition.compression
            else filesystem.open_input_file(partition.path)
        ) as handle:
            # A line belongs to the stretch it begins in: step back one byte and drop what is left of the line before.
            position = max(partition.start - 1, 0)
            stream = io.BufferedReader(handle)
            if partition.start:
                stream.seek(position)
                position += len(stream.readline())
            while position < partition.end:
                try:
                    line = stream.readline()
                except OSError as error:
                    # "Truncated compressed stream" alone would not say which of the night's files to fetch again.
                    raise OSError(f"{partition.name}: {error}") from error
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
    location = _location(settings, ds)
    if source.kind == "parquet":
        try:
            return _as_json(spark.read.parquet(location), Path(location).name)
        except AnalysisException as error:
            raise InputError(f"no chats for {ds}: {location} holds no Parquet ({error.getCondition()})") from error
    if not _files(location)[0]:
        raise InputError(
            f"no chats for {ds}: {location} has no file of JSON Lines ({', '.join(_LINES)}, "
            f"also with {', '.join(_COMPRESSIONS)})"
        )
    spark.dataSource.register(JsonLinesSource)
    return spark.read.format("dongcha_jsonl").load(location)


def _location(settings: Settings, ds: str) -> str:
    """URI of a night's folder or file."""
    location = settings.source.path.replace("{ds}", ds)
    if "://" in location:
        return location
    path = settings.resolve(location)
    if not path.exists():
        raise InputError(f"no chats for {ds}: {path} does not exist (source.path in the settings)")
    return path.as_uri()


def left_alone(settings: Settings, ds: str) -> list[str]:
    """Files of a night that are not read, for want of a name that says JSON Lines; empty for other kinds of source."""
    return _files(_location(settings, ds))[1] if settings.source.kind == "jsonl" else []


def _read_jdbc(spark: SparkSession, settings: Settings, ds: str) -> DataFrame:
    source = settings.source
    if not source.jdbc_url or not source.jdbc_table:
        raise InputError("source.kind is jdbc: set source.jdbc_url and source.jdbc_table")
    reader = spark.read.format("jdbc").options(
        url=source.jdbc_url, dbtable=source.jdbc_table, preferTimestampNTZ="true"
    )
    if source.jdbc_driver:
        reader = reader.option("driver", source.jdbc_driver)
    try:
        rows = reader.load()
    except (Py4JJavaError, PySparkException) as error:
        # A URL may hold a password, and drivers repeat it.
        said = str(error.java_exception if isinstance(error, Py4JJavaError) else error).replace(source.jdbc_url, "…")
        raise InputError(
            f"source.jdbc_table {source.jdbc_table} cannot be read ({said.splitlines()[0]}): look at source.jdbc_url "
            "and at source.jdbc_driver, whose jar comes through spark.extra"
        ) from error
    if dict(rows.dtypes).get("started_at") == "timestamp_ntz":
        # A time without a zone, which `parse_record` must see as such. Of most databases Spark reads it in the zone of
        # the machine that it runs on, even as TIMESTAMP_NTZ; what the driver writes as text is what the table has.
        rows = reader.option("customSchema", "started_at STRING").load()
    return rows.where(F.col("ds").cast("string") == ds).drop("ds")


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
    """Nights up to `ds` within `sample.window_days` whose source has chats, oldest first, `ds` always last.

    JDBC sources are asked for `ds` alone: their nights cannot be listed without reading the table.
    """
    last = date.fromisoformat(ds)
    days = [(last - timedelta(days=back)).isoformat() for back in range(settings.sample.window_days - 1, 0, -1)]
    if settings.source.kind == "jdbc" or "://" in settings.source.path:
        return [ds]
    paths = {day: settings.resolve(settings.source.path.replace("{ds}", day)) for day in days}
    whole = settings.source.kind == "parquet"
    return [day for day, path in paths.items() if path.exists() and (whole or _files(path.as_uri())[0])] + [ds]
