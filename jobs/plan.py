"""Stage plan: what labelling a night would cost, before a single request is sent.

The open questions are found as the label stage finds them; tokens and seconds are those counts times the rates that
former nights measured (`llm_usage`). What nobody measured is left open.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.labelling.backlog import candidates
from jobs.labelling.gold_pass import gold_candidates, gold_labels
from jobs.labelling.llm_pass import Asked, LlmPass
from jobs.labelling.questions import all_questions, unsure_questions
from jobs.labelling.standing import Standing, standing
from jobs.labelling.student_pass import student_views
from jobs.labelling.trial import try_llm
from jobs.labelling.usage import Spent
from jobs.labelling.windows import with_texts
from jobs.llm.labelling import LabelPrompt
from jobs.llm.profiles import load_profile
from jobs.planning.forecast import Forecast, Work, forecast
from jobs.planning.rates import Rates, measured_rates
from jobs.planning.work import prompt_sizes
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.students import embedding_source, student_for
from jobs.taxonomies.store import approved_taxonomy


@dataclass(frozen=True, slots=True)
class Plan:
    """The forecast of one night and what it rests on; `notes` are for people."""

    ds: str
    profile: str
    model: str
    work: Work
    rates: Rates | None
    forecast: Forecast
    gpu_currency: str
    token_currency: str | None
    notes: tuple[str, ...]


def _trust_note(found: Standing, tags: int, *, llm: bool) -> str:
    if not llm:
        return "The LLM is switched off (label.llm): nothing is asked."
    if found.measured_on is None:
        return "No night has compared the labellers yet: all tags may go to the LLM (upper bound)."
    return f"The LLM decides {len(found.llm_tags)} of {tags} tags, as measured on {found.measured_on}."


def _notes(work: Work, rates: Rates | None) -> list[str]:
    if rates is None:
        return [] if not work.asked else ["No night was measured on this model and profile yet: label one first."]
    nights = rates.nights[0] if len(rates.nights) == 1 else f"{rates.nights[0]} to {rates.nights[-1]}"
    notes = [f"Rates: {rates.requests_measured:,} requests of {nights}."]
    return notes if rates.same_prompt else [*notes, "They were measured with an earlier prompt."]


def plan(tables: Tables, settings: Settings, ds: str) -> Plan:
    """Forecast night `ds` and write it to `var/plans/DS.json`. Asks no server anything.

    Raises:
        InputError: the night was not ingested, or has no gold or student.
    """
    taxonomy = approved_taxonomy(settings, ds)
    profile = load_profile(settings)
    prompt = LabelPrompt(taxonomy, profile, overlap=settings.label.window_overlap)
    found_out = standing(tables, ds, taxonomy.tag_ids, settings.label)
    work = _work(tables, settings, ds, LlmPass(tables, settings, ds, taxonomy, prompt), found_out)
    rates = measured_rates(tables, ds, prompt)
    found = Plan(
        ds,
        profile.name,
        profile.served_model_name,
        work,
        rates,
        forecast(work, rates, profile, settings.cost),
        settings.cost.currency,
        profile.prices.currency if profile.prices else None,
        (_trust_note(found_out, len(taxonomy.tag_ids), llm=settings.label.llm), *_notes(work, rates)),
    )
    path = settings.var_dir / "plans" / f"{ds}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n", "utf-8")
    return found


def _tried(tables: Tables, ds: str, llm: LlmPass, calibration: DataFrame, views: DataFrame) -> tuple[str, ...]:
    """Contents of calibration gold that the night would ask about: all, where nobody knows yet how the LLM answers."""
    seen = views.join(calibration.select("conversation_id", "split"), "conversation_id")
    rows = [row.asDict(recursive=True) for row in seen.collect()]

    def ask(questions: DataFrame, texts: DataFrame) -> Asked:
        unknown = "not asked yet" if llm.missing(questions).limit(1).count() else None
        return Asked(0, 0, 0, unknown, Spent())

    labels = gold_labels(tables, ds, "calibration")
    trial = try_llm(llm, calibration, rows, labels, in_blocks=True, ask=ask)
    return trial.contents if trial.given_up else tuple({row["content_hash"] for row in rows})


def _work(tables: Tables, settings: Settings, ds: str, llm: LlmPass, found: Standing) -> Work:
    tag_ids = llm.prompt.tag_ids
    folder, embeddings = student_for(settings, ds, tag_ids)[1], embedding_source(settings)
    todo, gold = candidates(tables, ds), gold_candidates(tables, ds, "calibration", "test")
    if not settings.label.llm:
        return Work(todo.count(), gold.count(), 0, 0, 0, 0)
    calibration = gold.where(F.col("split") == "calibration")
    # As the label stage asks: calibration gold, then what the student is unsure of in gold and night.
    questions = all_questions(calibration, tag_ids)
    if settings.llm.mode == "server":
        views = student_views(calibration, folder, embeddings, found.bands, left_out=True)
        tried = _tried(tables, ds, llm, calibration, views)
        questions = questions.where(F.col("content_hash").isin(*tried))
    if found.llm_tags:
        for frame, left_out in ((gold, True), (todo, False)):
            views = student_views(frame, folder, embeddings, found.bands, left_out=left_out)
            questions = questions.unionByName(unsure_questions(views, tag_ids, found.llm_tags))
    texts = todo.unionByName(gold, allowMissingColumns=True)
    missing = llm.missing(llm.questions(questions.distinct(), texts)).persist(StorageLevel.DISK_ONLY)
    try:
        asked = missing.select("conversation_hash").distinct().count()
        open_questions = missing.select("conversation_hash", F.explode("tags")).distinct().count()
        windows, tokens = prompt_sizes(with_texts(missing, texts), llm.prompt)
        return Work(todo.count(), gold.count(), asked, open_questions, windows, tokens)
    finally:
        missing.unpersist()
