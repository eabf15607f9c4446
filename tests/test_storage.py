"""A night is replaced as a folder: what a process leaves that is killed between the two renames, and who sees what."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow.dataset import dataset
from pyspark.sql import DataFrame, SparkSession

from jobs.settings import PROJECT
from jobs.storage import Tables

pytestmark = pytest.mark.spark
NIGHT, OTHER = "2026-11-20", "2026-11-21"
KILLED = """
import os, signal, sys
from pathlib import Path
from jobs.settings import load_settings
from jobs.spark import spark_session
from jobs.storage import Tables
from tests.test_storage import verdicts

rename = Path.rename
def killed_once_the_old_night_is_gone(self, target):
    moved = rename(self, target)
    if self.name == "ds=2026-11-20":
        os.kill(os.getpid(), signal.SIGKILL)
    return moved
Path.rename = killed_once_the_old_night_is_gone

folder = Path(sys.argv[1])
settings = load_settings().model_copy(update={"var": folder / "var"})
tables = Tables(spark_session(settings, "killed"), folder / "warehouse")
tables.write("gate_verdicts", verdicts(tables, "passed"), "2026-11-20")
"""


def verdicts(tables: Tables, verdict: str) -> DataFrame:
    return tables.spark.createDataFrame([(NIGHT, verdict)], "ds string, verdict string").coalesce(1)


@pytest.fixture(scope="module")
def killed_once(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse whose night a process was replacing that died when the old one was moved and the new one not yet."""
    folder = tmp_path_factory.mktemp("killed")
    tables = Tables(spark, folder / "warehouse")
    tables.write("gate_verdicts", verdicts(tables, "open"), NIGHT)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=PROJECT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not tables.path("gate_verdicts", NIGHT).exists()
    assert staged(tables), "the new night lies beside it"
    return tables.warehouse


@pytest.fixture
def killed(killed_once: Path, tables: Tables) -> Tables:
    """The same in a folder of this test."""
    shutil.copytree(killed_once, tables.warehouse)
    return tables


def staged(tables: Tables) -> list[Path]:
    return [path for path in tables.warehouse.rglob("*.parquet") if "staged" in str(path)]


def read(tables: Tables) -> list[str]:
    return [row["verdict"] for row in tables.read("gate_verdicts", NIGHT).collect()]


def read_all(tables: Tables) -> list[str]:
    return [row["verdict"] for row in tables.read_all("gate_verdicts").collect()]


@pytest.mark.parametrize("look", [read, read_all])
def test_the_next_look_at_a_night_killed_between_the_renames_finds_the_old_one(
    killed: Tables, look: Callable[[Tables], list[str]]
) -> None:
    assert look(killed) == ["open"]
    assert not staged(killed), "nothing is left of the killed run"


def test_the_next_write_replaces_it_and_leaves_nothing_over(killed: Tables) -> None:
    killed.write("gate_verdicts", verdicts(killed, "refused"), NIGHT)
    assert read(killed) == read_all(killed) == ["refused"]
    assert len(list(killed.warehouse.rglob("*.parquet"))) == 1


def test_a_write_that_fails_between_the_renames_leaves_the_old_night(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.write("gate_verdicts", verdicts(tables, "open"), NIGHT)
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name.startswith(("staged", "_staged")):
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space left"):
        tables.write("gate_verdicts", verdicts(tables, "passed"), NIGHT)
    monkeypatch.undo()
    assert read(tables) == ["open"]


def test_what_is_being_written_is_no_data_yet_for_any_reader(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark and pyarrow pass over names that begin with an underscore; DuckDB takes whatever a pattern matches."""
    tables.write("gate_verdicts", verdicts(tables, "open"), NIGHT)
    rename, seen = Path.rename, list[int]()

    def looked_at(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if self.name == f"ds={NIGHT}":
            tables.write("gate_verdicts", verdicts(tables, "open"), OTHER)
            folder = tables.path("gate_verdicts")
            seen.append(dataset(folder, format="parquet", partitioning="hive").count_rows())
            seen.append(tables.spark.read.parquet(str(folder)).count())
            seen.append(len(list(folder.glob("**/*.parquet"))))
        return moved

    monkeypatch.setattr(Path, "rename", looked_at)
    tables.write("gate_verdicts", verdicts(tables, "passed"), NIGHT)
    assert seen == [1, 1, 1], "the other night alone, in the moment between the renames"


def test_two_runs_that_write_a_night_at_once_follow_one_another(tables: Tables) -> None:
    """Answers of either are paid for; and a night is one run's, not a mixture."""
    failed: list[BaseException] = []

    def work(verdict: str) -> None:
        try:
            for _ in range(3):
                tables.append("dead_letter_replays", replays(tables, verdict), NIGHT)
                tables.write("gate_verdicts", verdicts(tables, verdict), NIGHT)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(verdict,)) for verdict in ("open", "passed", "refused")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert tables.read_all("dead_letter_replays").count() == 9
    assert len(read(tables)) == 1


def replays(tables: Tables, key: str) -> DataFrame:
    schema = "answer_key string, request_key string, conversation_hash string, failures int"
    return tables.spark.createDataFrame([(key, "r", "h", 1)], schema).coalesce(1)
