"""Python in Spark's tasks does not have its imports searched for garbage after every task."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.arrow_tasks import _set_imports_aside, _with_imports_aside, map_in_arrow
from jobs.settings import PROJECT

SCHEMA = pa.schema([("frozen", pa.int64())])


def _twice(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from (batch, batch)


def _frozen(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"frozen": [gc.get_freeze_count()]}, schema=SCHEMA)


def test_batches_pass_and_what_lives_then_is_set_aside_once() -> None:
    batch = pa.RecordBatch.from_pydict({"n": [1, 2]})
    task = _with_imports_aside(_twice)
    try:
        _set_imports_aside.cache_clear()
        assert [found.num_rows for found in task(iter([batch]))] == [2, 2]
        assert gc.get_freeze_count() > 100_000
        gc.unfreeze()
        assert len(list(task(iter([batch])))) == 2
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()


@pytest.mark.spark
def test_a_worker_that_is_used_again_has_set_them_aside(spark: SparkSession) -> None:
    one = spark.range(1).coalesce(1)
    counts = [map_in_arrow(one, _frozen, SCHEMA).collect()[0]["frozen"] for _ in range(4)]
    assert counts[-1] > 10_000


def test_every_task_of_the_product_goes_this_way() -> None:
    users = {path.name for path in (PROJECT / "jobs").rglob("*.py") if ".mapInArrow(" in path.read_text("utf-8")}
    assert users == {"arrow_tasks.py"}
