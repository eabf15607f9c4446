"""One place that makes Spark sessions."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from jobs.settings import PROJECT, Settings


def spark_session(settings: Settings, name: str) -> SparkSession:
    """A session named `dongcha-<name>`; reuses the running one.

    Local sessions talk over the loopback only. Partition columns stay text: a `ds` is a name, not a date.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    # Workers import `jobs` too, from wherever the command was started.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(PROJECT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT), *filter(None, paths)])
    local = settings.spark.master.startswith("local")
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = (
        SparkSession.builder.appName(f"dongcha-{name}")
        .master(settings.spark.master)
        .config("spark.driver.memory", settings.spark.driver_memory)
        .config("spark.sql.shuffle.partitions", settings.spark.shuffle_partitions)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.sql.warehouse.dir", str(settings.var_dir / "spark-warehouse"))
        .config("spark.ui.enabled", "false")
        # A bar of carriage returns is for people at a terminal, not for logs.
        .config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        .config("spark.driver.extraJavaOptions", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1" if local else "")
    )
    if local:
        builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    for key, value in settings.spark.extra.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
