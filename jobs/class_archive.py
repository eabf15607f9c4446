"""Spark's Java classes, loaded once and kept in a file that every later start of a local Spark maps into memory.

Application class-data sharing (JEP 350, `-XX:ArchiveClassesAtExit`). A stage that runs by itself is a JVM of its own,
and much of a small one is reading and checking ten thousand classes from Spark's jars. The archive belongs to one
Python environment and one Java: another Java, or other jars than it was made from, and the JVM passes it over.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from subprocess import TimeoutExpired

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.errors import ServerError
from jobs.settings import Settings
from jobs.spark import CLASS_ARCHIVE, spark_session

_SECONDS_TO_WRITE = 300


def _exercise(spark: SparkSession, folder: str) -> None:
    """What stages do with Spark, so that its classes are in the archive: files, Python, windows, joins, partitions."""
    lines = Path(folder, "lines.txt")
    lines.write_text("a\nb\nc\n", "utf-8")
    texts = spark.read.text(str(lines)).withColumn("source_file", F.input_file_name())
    rows = spark.createDataFrame([(f"{n}", n % 3, "2026-01-01") for n in range(9)], "id string, kind int, ds string")
    seen = texts.mapInPandas(lambda frames: frames, "value string, source_file string").select("value").distinct()
    ranked = rows.withColumn("place", F.row_number().over(Window.partitionBy("kind").orderBy("id")))
    counted = ranked.groupBy("kind", "ds").agg(
        F.count("*").alias("n"), F.collect_list(F.struct("id", "place")).alias("members"), F.max("place").alias("last")
    )
    table = str(Path(folder, "table"))
    for _ in range(2):  # The second time a partition is replaced.
        counted.write.partitionBy("ds").option("partitionOverwriteMode", "dynamic").mode("overwrite").parquet(table)
    stored = spark.read.parquet(table).filter(F.col("ds") == "2026-01-01")
    exploded = stored.select("kind", F.explode("members").alias("member")).select("kind", "member.id", "member.place")
    joined = exploded.join(rows, ["id", "kind"], "left").join(seen, F.col("id") == F.col("value"), "left_anti")
    joined.unionByName(joined).dropDuplicates(["id"]).orderBy("id").toPandas()
    spark.read.json(str(lines)).count()


def make_class_archive(settings: Settings) -> Path:
    """Start a Spark that writes the archive of this environment when it ends; it is put in place when it is whole.

    Raises:
        ServerError: the JVM wrote none, or did not end in time.
    """
    CLASS_ARCHIVE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=CLASS_ARCHIVE.parent) as folder:
        written = Path(folder, CLASS_ARCHIVE.name)
        # Cluster or Connect server of the settings have JVMs of their own; this is about the local one.
        local = settings.model_copy(update={"spark": settings.spark.model_copy(update={"master": "local[2]"})})
        # A thousand warnings name classes that cannot be archived: those that Spark made up while it ran, mostly.
        quiet = "-Xlog:disable -Xlog:all=error:stderr"
        spark = spark_session(local, "class-archive", java_options=f"-XX:ArchiveClassesAtExit={written} {quiet}")
        java = spark.sparkContext._gateway.proc  # type: ignore[union-attr]
        _exercise(spark, folder)
        spark.stop()
        java.stdin.close()  # Spark's gateway ends with its input.
        try:
            java.wait(_SECONDS_TO_WRITE)
        except TimeoutExpired as error:
            java.kill()
            raise ServerError(f"Java did not end within {_SECONDS_TO_WRITE} s; no archive was made") from error
        if not written.is_file():
            raise ServerError("Java ended without an archive; is it a Java 17 with class-data sharing?")
        written.replace(CLASS_ARCHIVE)
    return CLASS_ARCHIVE
