"""`flips --ds`: a sample of a night's conversations labelled once more, as if nothing had been asked before.

The same code labels them as labelled the night, with a warehouse of its own that is empty and thrown away: no answer is
taken from the night's, no label is saved. The student always says the same; what flips is the LLM's.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import InputError, ServerError
from jobs.evaluation.flips import Flips, compare_labellings
from jobs.labelling.backlog import candidates
from jobs.labelling.conclude import Rules, conclude
from jobs.labelling.decide import CANNOT_TELL, NONE
from jobs.labelling.llm_pass import LlmPass
from jobs.labelling.questions import unsure_questions, with_whole
from jobs.labelling.standing import standing
from jobs.labelling.student_pass import student_views
from jobs.llm.labelling import LabelPrompt
from jobs.llm.profiles import load_profile
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.students import embedding_source, student_for
from jobs.taxonomies.store import approved_taxonomy

_KEY = ("conversation_id", "conversation_ds")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Relabelled:
    """What flipped; the LLM was `asked` about so many of the conversations, in `requests`.

    `unanswered` conversations of the sample are not compared: this time the LLM gave no usable answer.
    """

    flips: Flips
    asked: int
    requests: int
    unanswered: int


def _tags(rows: DataFrame) -> dict[str, frozenset[str]]:
    """Rows (conversation_id, conversation_ds, tags) as sets of tags; `none` and `cannot_tell` are no tags."""
    return {
        f"{row['conversation_ds']} {row['conversation_id']}": frozenset(row["tags"] or ()) - {NONE, CANNOT_TELL}
        for row in rows.collect()
    }


def _sample(tables: Tables, ds: str, limit: int) -> DataFrame:
    """Up to `limit` conversations that night `ds` labelled, drawn by a hash: the same at every call."""
    labelled = tables.read("label_outcomes", ds).where("status = 'labelled'").select(*_KEY)
    drawn = labelled.orderBy(F.sha2(F.concat_ws(" ", *_KEY), 256)).limit(limit)
    return candidates(tables, ds).join(drawn, list(_KEY), "left_semi").persist(StorageLevel.DISK_ONLY)


def relabel(tables: Tables, settings: Settings, ds: str, limit: int, say: Say = print) -> Relabelled:
    """Label up to `limit` conversations of night `ds` again and compare with the night's labels.

    Raises:
        InputError: the night was not labelled; or the LLM is reached by files, whose answers are not asked for again.
        ServerError: the LLM is needed and cannot be reached.
    """
    if settings.llm.mode != "server":
        raise InputError(f"flips --ds needs a server: answers in files (llm.mode {settings.llm.mode}) never change")
    sample = _sample(tables, ds, limit)
    try:
        if sample.isEmpty():
            raise InputError(f"night {ds} has no labelled conversation: run `python -m jobs label --ds {ds}` first")
        labels = tables.read("labels", ds).join(sample, list(_KEY), "left_semi")
        before = _tags(labels.groupBy(*_KEY).agg(F.collect_set("tag_id").alias("tags")))
        scratch = Tables(tables.spark, settings.var_dir / "flips" / uuid.uuid4().hex)
        try:
            after, asked, requests = _again(scratch, tables, settings, ds, sample, say=say)
        finally:
            shutil.rmtree(scratch.warehouse, ignore_errors=True)
    finally:
        sample.unpersist()
    kept = {name: tags for name, tags in before.items() if name in after}
    if not kept:
        raise ServerError("the LLM gave no usable answer about any of the conversations: is it the night's server?")
    return Relabelled(
        compare_labellings(kept, after, settings.gate.confidence), asked, requests, len(before) - len(kept)
    )


def _again(
    scratch: Tables, tables: Tables, settings: Settings, ds: str, sample: DataFrame, *, say: Say
) -> tuple[dict[str, frozenset[str]], int, int]:
    """(tags by conversation, conversations that the LLM was asked about, requests) of the second labelling."""
    taxonomy = approved_taxonomy(settings, ds)
    prompt = LabelPrompt(taxonomy, load_profile(settings), overlap=settings.label.window_overlap)
    found = standing(tables, ds, taxonomy.tag_ids, settings.label)
    llm_tags = found.llm_tags if settings.label.llm else frozenset()
    rules = Rules(taxonomy.tag_ids, llm_tags, {}, {}, whole=found.whole & llm_tags)
    llm = LlmPass(scratch, settings, ds, taxonomy, prompt)
    folder = student_for(settings, ds, taxonomy.tag_ids)[1]
    views = student_views(sample, folder, embedding_source(settings), found.bands).persist(StorageLevel.DISK_ONLY)
    try:
        unsure = unsure_questions(views, rules.tag_ids, llm_tags)
        spent = llm.ask(llm.questions(unsure, sample), sample, "again", say) if llm_tags else None
        if spent is not None and spent.outage:
            raise ServerError(f"labelling again stopped: {spent.outage}; see `python -m jobs serve status`")
        answers = llm.answers(llm.questions(with_whole(unsure, rules.whole), sample))
        concluded = conclude(sample, views, answers, rules).where("status = 'labelled'").persist()
        after = _tags(concluded.select(*_KEY, F.col("rows.tag_id").alias("tags")))
        asked = concluded.where("llm_asked").count()
        concluded.unpersist()
        return after, asked, spent.requests if spent is not None else 0
    finally:
        views.unpersist()


def relabelled_flips(tables: Tables, settings: Settings, ds: str, limit: int, say: Say = print) -> dict[str, object]:
    """`relabel`, as `flips_table` shows it."""
    found = relabel(tables, settings, ds, limit, say)
    return asdict(found.flips) | {
        "asked": found.asked,
        "requests": found.requests,
        "unanswered": found.unanswered,
    }
