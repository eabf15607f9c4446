from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("DONGCHA_PRIVACY__PSEUDONYM_KEY", "tests-only")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pyspark.sql import SparkSession

from jobs.settings import Settings, SourceSettings, load_settings
from jobs.storage import Tables


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One real Spark session for the whole test run."""
    from jobs.spark import spark_session

    settings = load_settings().model_copy(update={"var": tmp_path_factory.mktemp("spark")})
    session = spark_session(settings, "tests")
    yield session
    session.stop()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose output goes to a folder of this test; the source is `tmp_path/chats/{ds}`."""
    source = SourceSettings(path=str(tmp_path / "chats" / "{ds}"), identities=None, gold=None)
    return load_settings().model_copy(update={"var": tmp_path / "var", "source": source})


@pytest.fixture
def tables(spark: SparkSession, settings: Settings) -> Tables:
    """An empty warehouse."""
    return Tables(spark, settings.warehouse)
