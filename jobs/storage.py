"""Fact tables: Spark tables partitioned by `ds`, one night replaced as a whole.

Path formats (parquet, orc) are written a partition folder at a time, apart from the old one, which is then replaced
(`jobs/night_folder.py`): Spark's dynamic overwrite would leave the old night in place when the new one is empty, and
its plain one deletes the old night before it writes. Other formats (delta, iceberg) go through the catalog and
overwrite by predicate; they need the cluster's jars.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.contracts import load_contract
from jobs.errors import InputError
from jobs.night_folder import NightFolder, nights_aside

PATH_FORMATS = ("parquet", "orc")


def check_ds(ds: str) -> str:
    """`ds` if it is a night (YYYY-MM-DD); it becomes part of paths, so nothing else may pass.

    Raises:
        InputError: it is not.
    """
    try:
        # ISO 8601 knows other ways to write a day; a path takes one alone.
        fits = date.fromisoformat(ds).isoformat() == ds
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(f"{ds!r} is no night: expected a date like 2026-11-20")
    return ds


@dataclass(frozen=True, slots=True)
class Tables:
    """The fact tables of one warehouse."""

    spark: SparkSession
    warehouse: Path
    format: str = "parquet"

    def path(self, name: str, ds: str | None = None) -> Path:
        """Folder of a table, or of one night of it."""
        root = self.warehouse / name
        return root if ds is None else root / f"ds={check_ds(ds)}"

    def exists(self, name: str, ds: str) -> bool:
        """Whether this night of the table was written to its end."""
        if self.format in PATH_FORMATS:
            night = self._night(name, ds)
            night.put_right()
            return (night.place / "_SUCCESS").exists()
        return self.spark.catalog.tableExists(name) and not self.spark.table(name).where(F.col("ds") == ds).isEmpty()

    def write(self, name: str, frame: DataFrame, ds: str) -> int:
        """Replace one night of a table, columns cast to the contract; returns the rows written."""
        shaped = self._shaped(name, frame)
        if self.format in PATH_FORMATS:
            from pyarrow.dataset import dataset  # not for every command that knows tables

            night = self._night(name, ds)
            with night.owned() as staged:
                shaped.write.format(self.format).save(str(staged))
                # Files say how many rows they hold: no Spark job is needed to count what was just written.
                count = int(dataset(staged, format=self.format).count_rows())
                night.replace(staged)
            return count
        rows = shaped.withColumn("ds", F.lit(ds))
        if self.spark.catalog.tableExists(name):
            rows.writeTo(name).overwrite(F.col("ds") == ds)
        else:
            rows.writeTo(name).using(self.format).partitionedBy(F.col("ds")).create()
        return self.spark.table(name).where(F.col("ds") == ds).count()

    def append(self, name: str, frame: DataFrame, ds: str) -> None:
        """Add rows to one night of a table: for answers that were paid for and must not be lost."""
        shaped = self._shaped(name, frame)
        if self.format in PATH_FORMATS:
            night = self._night(name, ds)
            with night.owned() as staged:
                shaped.write.format(self.format).save(str(staged))
                night.add(staged)
        else:
            rows = shaped.withColumn("ds", F.lit(ds))
            if self.spark.catalog.tableExists(name):
                rows.writeTo(name).append()
            else:
                rows.writeTo(name).using(self.format).partitionedBy(F.col("ds")).create()

    def read(self, name: str, ds: str) -> DataFrame:
        """One night of a table, in contract order.

        Raises:
            InputError: this night was never written, or its writing was cut off.
        """
        if not self.exists(name, ds):
            raise InputError(
                f"table {name} has no complete night {ds}: run the stage that writes it first (docs/design.md)"
            )
        return _only(self._nights(name).where(F.col("ds") == ds), load_contract(name).column_names)

    def read_all(self, name: str, until: str | None = None) -> DataFrame:
        """Every night of a table up to and including `until`, with its `ds`; empty where there is none."""
        columns = load_contract(name).column_names
        frame = _only(self._nights(name), columns if "ds" in columns else (*columns, "ds"))
        return frame if until is None else frame.where(F.col("ds") <= check_ds(until))

    def _nights(self, name: str) -> DataFrame:
        """All that there is, columns in any order."""
        schema = load_contract(name).spark_schema()
        if "ds" not in schema.names:
            schema = schema.add("ds", "string")
        if self.format in PATH_FORMATS:
            for ds in nights_aside(self.warehouse, name):
                self._night(name, ds).put_right()
            root = self.path(name)
            if not any(root.glob(f"ds=*/*.{self.format}")):
                return self.spark.createDataFrame([], schema)
            return self.spark.read.schema(schema).format(self.format).load(str(root))
        if self.spark.catalog.tableExists(name):
            return self.spark.table(name)
        return self.spark.createDataFrame([], schema)

    def _night(self, name: str, ds: str) -> NightFolder:
        return NightFolder.of(self.warehouse, name, check_ds(ds))

    def _shaped(self, name: str, frame: DataFrame) -> DataFrame:
        columns = (column for column in load_contract(name).columns if column.name != "ds")
        return frame.selectExpr(*(f"CAST(`{c.name}` AS {c.physical_type}) AS `{c.name}`" for c in columns))


def _only(frame: DataFrame, columns: Iterable[str]) -> DataFrame:
    """These columns, by one call to the JVM: `select` makes several for each name."""
    return frame.selectExpr(*(f"`{name}`" for name in columns))
