"""The warehouse, opened for one command of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.settings import Settings, load_settings
from jobs.storage import Tables, check_ds


@contextmanager
def open_tables(name: str, ds: str) -> Iterator[tuple[Tables, Settings]]:
    """Tables and settings for command `name` about night `ds`; Spark stops with the context.

    Raises:
        InputError: a setting does not fit, or `ds` is no night.
    """
    from jobs.spark import spark_session

    settings = load_settings()
    check_ds(ds)
    spark = spark_session(settings, name)
    try:
        yield Tables(spark, settings.warehouse, settings.storage.format), settings
    finally:
        spark.stop()
