"""What must be asked of the LLM: questions without an answer in `llm_answers`, in waves.

A question is (content, tag definition, prompt, model); its SHA-256 is the answer's key. A renamed tag costs nothing,
a redefined tag asks that tag alone, an unchanged night asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.storage import Tables


def with_keys(questions: DataFrame, tag_hashes: Mapping[str, str], prompt_hash: str, model: str) -> DataFrame:
    """Add `answer_key` to rows of (content_hash, tag_id, …)."""
    pairs = [F.lit(part) for item in sorted(tag_hashes.items()) for part in item]
    tag_hash = F.create_map(*pairs)[F.col("tag_id")]
    key = F.concat_ws("\x1f", F.col("content_hash"), tag_hash, F.lit(prompt_hash), F.lit(model))
    return questions.withColumn("answer_key", F.sha2(key, 256))


def answers_of(tables: Tables, questions: DataFrame) -> DataFrame:
    """What was answered before, on any night: `llm_answers` rows for the keys of `questions`, one a key."""
    newest = Window.partitionBy("answer_key").orderBy(F.col("ds").desc())
    keys = questions.select("answer_key").distinct()
    return (
        tables.read_all("llm_answers")
        .join(keys, "answer_key", "left_semi")
        .withColumn("rank", F.row_number().over(newest))
        .where("rank = 1")
        .drop("rank")
    )


def missing_contents(tables: Tables, questions: DataFrame) -> DataFrame:
    """(content_hash, tags) still to ask: one row a content, with the tags that have no answer, sorted."""
    answered = answers_of(tables, questions).select("answer_key")
    return (
        questions.join(answered, "answer_key", "left_anti")
        .groupBy("content_hash")
        .agg(F.sort_array(F.collect_set("tag_id")).alias("tags"))
    )


def waves(contents: DataFrame, size: int) -> Iterator[DataFrame]:
    """Cut contents into waves of at most `size` rows, in a fixed order, so that a resumed night cuts alike."""
    numbered = contents.withColumn(
        "wave", F.floor((F.row_number().over(Window.orderBy("content_hash")) - 1) / F.lit(size))
    ).persist()
    try:
        last = numbered.agg(F.max("wave")).first()
        if last is None or last[0] is None:
            return
        for number in range(int(last[0]) + 1):
            yield numbered.where(F.col("wave") == number).drop("wave")
    finally:
        numbered.unpersist()
