"""What the student may learn from the LLM: its confident answers of earlier nights about tags it was trusted with."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.conversation import Conversation, Turn
from jobs.labelling.questions import answers_of, with_keys
from jobs.llm.labelling import LabelPrompt
from jobs.llm.profiles import load_profile
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.student.lessons import Lesson
from jobs.taxonomy import Taxonomy


def _trusted(tables: Tables, before: str) -> dict[str, float]:
    """Tags that the LLM decided on the last night before `before`, with its precision on calibration gold."""
    known = tables.read_all("llm_trust").where(F.col("ds") < before)
    last = known.agg(F.max("ds")).collect()[0][0]
    if last is None:
        return {}
    rows = known.where((F.col("ds") == last) & F.col("llm_decides")).collect()
    return {row["tag_id"]: float(row["llm_precision"]) for row in rows}


def _confident(answers: DataFrame, trusted: dict[str, float], confidence: float) -> DataFrame:
    """`absent` has no confidence of its own: it counts because the LLM has earned the tag."""
    pairs = [F.lit(part) for item in sorted(trusted.items()) for part in item]
    sure = F.coalesce(F.col("confidence"), F.create_map(*pairs)[F.col("tag_id")])
    present = (F.col("verdict") == "present") & (sure >= confidence)
    return answers.where(present | (F.col("verdict") == "absent"))


def llm_lessons(tables: Tables, settings: Settings, ds: str, taxonomy: Taxonomy) -> tuple[Lesson, ...]:
    """The newest `student.lessons` contents of nights before `ds` that the LLM answered about confidently.

    Answers count for today's definitions, prompt and model alone. No conversation of the gold is among them, so that
    test gold is never learned from and calibration gold judges a student that was taught nothing about it.
    """
    trusted = _trusted(tables, ds) if settings.student.lessons and settings.label.llm else {}
    trusted = {tag_id: precision for tag_id, precision in trusted.items() if tag_id in taxonomy.tag_ids}
    if not trusted:
        return ()
    prompt = LabelPrompt(taxonomy, load_profile(settings))
    gold = tables.read("gold", ds)
    texts = (
        tables.read_all("conversations")
        .where(F.col("ds") < ds)
        .join(gold.select("content_hash"), "content_hash", "left_anti")
        # Gold is redacted anew every night, an earlier night by the rules of its time: its content may differ.
        .join(gold.select("conversation_id"), "conversation_id", "left_anti")
        .groupBy("content_hash")
        .agg(F.max_by("turns", "ds").alias("turns"), F.max("ds").alias("night"))
    )
    questions = texts.select("content_hash", F.explode(F.array(*map(F.lit, sorted(trusted)))).alias("tag_id"))
    hashes = {tag.id: tag.definition_hash for tag in taxonomy.tags}
    keyed = with_keys(questions, hashes, prompt.prompt_hash, prompt.profile.served_model_name)
    answers = answers_of(tables, keyed).where(F.col("ds") < ds)
    verdict = F.struct("tag_id", (F.col("verdict") == "present").alias("present"))
    found = (
        _confident(answers, trusted, settings.student.lesson_confidence)
        .groupBy("content_hash")
        .agg(F.sort_array(F.collect_set(verdict)).alias("verdicts"))
        .join(texts, "content_hash")
        .orderBy(F.desc("night"), "content_hash")
        .limit(settings.student.lessons)
    )
    return tuple(
        Lesson(
            Conversation(row["content_hash"], tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"])),
            {entry["tag_id"]: bool(entry["present"]) for entry in row["verdicts"]},
        )
        for row in found.collect()
    )
