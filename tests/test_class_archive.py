"""Spark's Java classes come from the archive that `make setup` left in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import spark as sessions
from jobs.settings import load_settings


@pytest.mark.spark
def test_a_local_spark_maps_the_archive_into_memory(spark: SparkSession) -> None:
    assert sessions.CLASS_ARCHIVE.is_file(), "`make setup` makes it, or `python -m jobs class-archive`"
    java = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()  # type: ignore[union-attr]
    # The JVM drops an archive that does not fit its jars; then this line is not there.
    assert str(sessions.CLASS_ARCHIVE.resolve()) in Path(f"/proc/{java}/maps").read_text()


def test_without_an_archive_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sessions, "CLASS_ARCHIVE", tmp_path / "none.jsa")
    options = sessions._engine_options(load_settings(), sessions._archived_classes())
    assert "SharedArchiveFile" not in options["spark.driver.extraJavaOptions"]
