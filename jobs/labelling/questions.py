"""What must be asked of the LLM: questions without an answer in `llm_answers`, in waves.

A question is (content, tag definition, prompt, model); its SHA-256 is the answer's key. A renamed tag costs nothing,
a redefined tag asks that tag alone, an unchanged night asks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.storage import Tables

UNUSABLE = "unusable"
MOST_NIGHTS = 3
"""After this many nights without a usable answer a question is dead; a person can look at it."""


def unsure_questions(views: DataFrame, tag_ids: Sequence[str], llm_tags: frozenset[str]) -> DataFrame:
    """(content_hash, tag_id) where the student is unsure and the LLM may decide."""
    pairs = F.arrays_zip(F.array(*map(F.lit, tag_ids)).alias("tag_id"), F.col("unsure"))
    return (
        views.select("content_hash", F.explode(pairs).alias("pair"))
        .select("content_hash", F.col("pair.tag_id").alias("tag_id"), F.col("pair.unsure").alias("unsure"))
        .where(F.col("unsure") & F.col("tag_id").isin(*llm_tags))
        .select("content_hash", "tag_id")
        .distinct()
    )


def with_whole(questions: DataFrame, tag_ids: frozenset[str]) -> DataFrame:
    """`questions` (content_hash, tag_id) and the same contents with all `tag_ids`: what a request answers anyway."""
    if not tag_ids:
        return questions
    return questions.union(all_questions(questions, sorted(tag_ids))).distinct()


def all_questions(contents: DataFrame, tag_ids: Sequence[str]) -> DataFrame:
    """(content_hash, tag_id) for every tag of every content."""
    return contents.select("content_hash", F.explode(F.array(*map(F.lit, tag_ids))).alias("tag_id")).distinct()


def with_keys(questions: DataFrame, tag_hashes: Mapping[str, str], prompt_hash: str, model: str) -> DataFrame:
    """Add `answer_key` to rows of (content_hash, tag_id, …)."""
    pairs = [F.lit(part) for item in sorted(tag_hashes.items()) for part in item]
    tag_hash = F.create_map(*pairs)[F.col("tag_id")]
    key = F.concat_ws("\x1f", F.col("content_hash"), tag_hash, F.lit(prompt_hash), F.lit(model))
    return questions.withColumn("answer_key", F.sha2(key, 256))


def answers_of(tables: Tables, questions: DataFrame) -> DataFrame:
    """What is known of the keys of `questions`, one row a key: an answer that counts, else the newest unusable one.

    Adds `failures`, how often the question came to nothing, `unusable_nights`, on how many nights, and `last_asked`. A
    person's wish to ask again (`dead_letter_replays`) holds until the next answer, usable or not: `replayed`. Such a
    question counts as never tried.
    """
    keys = questions.select("answer_key").distinct()
    wishes = tables.read_all("dead_letter_replays").groupBy("answer_key").agg(F.max("failures").alias("wished_at"))
    best = Window.partitionBy("answer_key").orderBy(F.col("verdict") == UNUSABLE, F.col("ds").desc())
    every = Window.partitionBy("answer_key")
    failed_night = F.when(F.col("verdict") == UNUSABLE, F.col("ds"))
    return (
        tables.read_all("llm_answers")
        .join(keys, "answer_key", "left_semi")
        .withColumn("rank", F.row_number().over(best))
        .withColumn("unusable_nights", F.size(F.collect_set(failed_night).over(every)))
        .withColumn("failures", F.count(failed_night).over(every))
        .withColumn("last_asked", F.max("ds").over(every))
        .where("rank = 1")
        .drop("rank")
        .join(wishes, "answer_key", "left")
        .withColumn("replayed", (F.col("verdict") == UNUSABLE) & F.col("wished_at").eqNullSafe(F.col("failures")))
        .withColumn("unusable_nights", F.when(F.col("replayed"), 0).otherwise(F.col("unusable_nights")))
        .withColumn("last_asked", F.when(F.col("replayed"), "").otherwise(F.col("last_asked")))
        .drop("wished_at")
    )


def _is_settled(ds: str) -> Column:
    """On rows of `answers_of`: answered, tried tonight, or tried too often; null where nothing is known."""
    tried = (F.col("last_asked") >= ds) | (F.col("unusable_nights") >= MOST_NIGHTS)
    return (F.col("verdict") != UNUSABLE) | tried


def settled(answers: DataFrame, ds: str) -> DataFrame:
    """Rows of `answers_of` that night `ds` does not ask about."""
    return answers.where(_is_settled(ds))


def missing_contents(tables: Tables, questions: DataFrame, ds: str) -> DataFrame:
    """(content_hash, tags, conversation_hash, failures) still to ask: one row a content, its unsettled tags, sorted.

    `conversation_hash` is one of the conversations that have this content, `failures` how often its questions came to
    nothing before.
    """
    known = answers_of(tables, questions).select("answer_key", "failures", _is_settled(ds).alias("settled"))
    return (
        questions.join(known, "answer_key", "left")
        .where(~F.coalesce("settled", F.lit(False)))
        .groupBy("content_hash")
        .agg(
            F.sort_array(F.collect_set("tag_id")).alias("tags"),
            F.min("conversation_hash").alias("conversation_hash"),
            F.coalesce(F.max("failures"), F.lit(0)).cast("int").alias("failures"),
        )
    )


def waves(contents: DataFrame, size: Callable[[], int]) -> Iterator[DataFrame]:
    """Cut contents into waves, in a fixed order; `size` is asked before each how many rows it may have."""
    numbered = contents.withColumn("place", F.row_number().over(Window.orderBy("content_hash"))).persist()
    try:
        total, done = numbered.count(), 0
        while done < total:
            end = done + size()
            yield numbered.where((F.col("place") > done) & (F.col("place") <= end)).drop("place")
            done = end
    finally:
        numbered.unpersist()
