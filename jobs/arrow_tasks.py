"""Python in Spark's tasks: a function from Arrow batches to Arrow batches, run by Spark's Python workers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from functools import cache

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

ArrowTask = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@cache
def _set_imports_aside(modules: int) -> None:
    """Once for each number of imported `modules`: the garbage collector leaves what lives now alone."""
    gc.collect()
    gc.freeze()


def _with_imports_aside(task: ArrowTask) -> ArrowTask:
    # A worker collects garbage after every task (pyspark/daemon.py). With pandas and scikit-learn imported that walks
    # 200,000 objects which nobody will ever drop: a tenth of a second, longer than most tasks of a small night take.
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from task(batches)
        _set_imports_aside(len(sys.modules))

    return run


def map_in_arrow(frame: DataFrame, task: ArrowTask, schema: pa.Schema | str) -> DataFrame:
    """`DataFrame.mapInArrow`, for tasks that import much.

    Args:
        frame: its rows are the batches.
        task: pickled to the workers.
        schema: of what `task` yields, Arrow's or as DDL.
    """
    made = schema if isinstance(schema, str) else from_arrow_schema(schema)
    return frame.mapInArrow(_with_imports_aside(task), made)
