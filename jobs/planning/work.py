"""What a night's prompts would hold, from the text alone."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow_tasks import ArrowTask, map_in_arrow
from jobs.labelling.windows import wanted_windows
from jobs.llm.labelling import LabelPrompt
from jobs.llm.rendering import estimate_tokens

_SIZES = pa.schema([("windows", pa.int64()), ("tokens", pa.float64())])


def _sizer(prompt: LabelPrompt) -> ArrowTask:
    per_wide_char = prompt.profile.tokens_per_wide_char
    prefix = estimate_tokens(prompt.system, per_wide_char)

    def size(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            windows, tokens = 0, 0.0
            for row in batch.to_pylist():
                # A window without a word of the customer's is answered without a request.
                shown = [window for window, _ in wanted_windows(row, prompt) if window.customer_turns]
                windows += len(shown)
                tokens += sum(prefix + estimate_tokens(window.text, per_wide_char) for window in shown)
            yield pa.RecordBatch.from_pydict({"windows": [windows], "tokens": [tokens]}, schema=_SIZES)

    return size


def prompt_sizes(wanted: DataFrame, prompt: LabelPrompt) -> tuple[int, int]:
    """(requests, prompt tokens) that `wanted`, rows of `with_texts`, need at least; tokens from counted characters."""
    sizes = map_in_arrow(wanted, _sizer(prompt), _SIZES)
    total = sizes.agg(F.sum("windows").alias("windows"), F.sum("tokens").alias("tokens")).collect()[0]
    return int(total["windows"] or 0), round(total["tokens"] or 0)
