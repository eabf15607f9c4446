"""What a night's prompts would hold, from the text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.conversation import Conversation, Turn
from jobs.llm.labelling import LabelPrompt
from jobs.llm.rendering import estimate_tokens

_SIZES = pa.schema([("windows", pa.int64()), ("tokens", pa.float64())])


def _sizer(prompt: LabelPrompt) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    per_wide_char = prompt.profile.tokens_per_wide_char
    prefix = estimate_tokens(prompt.system, per_wide_char)

    def size(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            windows, tokens = 0, 0.0
            for row in batch.to_pylist():
                turns = tuple(Turn(t["speaker"], t["text"]) for t in row["turns"])
                shown = [prompt.render(Conversation(row["content_hash"], turns))]
                windows += len(shown)
                tokens += sum(prefix + estimate_tokens(window.text, per_wide_char) for window in shown)
            yield pa.RecordBatch.from_pydict({"windows": [windows], "tokens": [tokens]}, schema=_SIZES)

    return size


def prompt_sizes(contents: DataFrame, prompt: LabelPrompt) -> tuple[int, int]:
    """(requests, prompt tokens) that contents (content_hash, turns) need at least; tokens estimated from characters."""
    sizes = contents.select("content_hash", "turns").mapInArrow(_sizer(prompt), from_arrow_schema(_SIZES))
    total = sizes.agg(F.sum("windows").alias("windows"), F.sum("tokens").alias("tokens")).collect()[0]
    return int(total["windows"] or 0), round(total["tokens"] or 0)
