from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("DONGCHA_PRIVACY__PSEUDONYM_KEY", "tests-only")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# For forty rows it takes longer to compile a query than to run it, to note for every column which line of Python made
# it, to draw the plan, to make it anew after every exchange, and to shuffle them into several parts.
os.environ.setdefault(
    "DONGCHA_SPARK__EXTRA",
    json.dumps(
        {
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.python.sql.dataFrameDebugging.enabled": "false",
            "spark.sql.ui.explainMode": "simple",
            "spark.sql.adaptive.enabled": "false",
        }
    ),
)
os.environ.setdefault("DONGCHA_SPARK__SHUFFLE_PARTITIONS", "1")

from pyspark.sql import SparkSession

from jobs.settings import Settings, SourceSettings, load_settings
from jobs.storage import Tables
from tests import small_night
from tests.fake_llm import FakeLlm

LONGEST = ("dags", "label", "dead_letters", "drills", "llm_real", "long_chats", "flips_night", "bench_night", "publish")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes first: a long one at the end would leave the other processes idle."""
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One real Spark session for the whole test run."""
    from jobs.spark import spark_session

    settings = load_settings().model_copy(update={"var": tmp_path_factory.mktemp("spark")})
    session = spark_session(settings, "tests")
    yield session
    session.stop()


def in_folder(folder: Path) -> Settings:
    source = SourceSettings(path=str(folder / "chats" / "{ds}"), identities=None, gold=None)
    return load_settings().model_copy(update={"var": folder / "var", "source": source})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose output goes to a folder of this test; the source is `tmp_path/chats/{ds}`."""
    return in_folder(tmp_path)


@pytest.fixture
def tables(spark: SparkSession, settings: Settings) -> Tables:
    """An empty warehouse."""
    return Tables(spark, settings.warehouse)


@pytest.fixture(scope="session")
def prepared(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small night, ingested and its student trained: made once, copied for each test."""
    folder = tmp_path_factory.mktemp("small-night")
    ready = small_night.in_folder(in_folder(folder), folder)
    small_night.build(Tables(spark, ready.warehouse), ready, folder)
    return folder


@pytest.fixture(scope="session")
def labelled_once(spark: SparkSession, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its second night labelled beside a perfect LLM: made once, copied for each test."""
    folder = tmp_path_factory.mktemp("labelled-night")
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    ready = small_night.in_folder(in_folder(folder), folder)
    with FakeLlm(small_night.oracle) as fake:
        small_night.run(Tables(spark, ready.warehouse), ready, small_night.SECOND, fake.base_url)
    return folder


@pytest.fixture
def labelled(labelled_once: Path, settings: Settings, tmp_path: Path) -> Settings:
    """The small night in a folder of this test, `small_night.NEEDED` requests already paid."""
    shutil.copytree(labelled_once, tmp_path, dirs_exist_ok=True)
    return small_night.in_folder(settings, tmp_path)


@pytest.fixture
def night(prepared: Path, settings: Settings, tmp_path: Path) -> Settings:
    """The small night in a folder of this test."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return small_night.in_folder(settings, tmp_path)
