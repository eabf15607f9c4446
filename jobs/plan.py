"""Stage plan: what labelling a night would cost, before a single request is sent.

The open questions are found as the label stage finds them; tokens and seconds are those counts times the rates that
former nights measured (`llm_usage`). What nobody measured is left open.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from pyspark import StorageLevel
from pyspark.sql import functions as F

from jobs.cascade import Bands
from jobs.guarantee import Promise
from jobs.labelling.backlog import candidates
from jobs.labelling.gold_pass import gold_candidates
from jobs.labelling.llm_pass import LlmPass
from jobs.labelling.questions import all_questions, missing_contents, unsure_questions
from jobs.labelling.student_pass import student_views
from jobs.llm.labelling import LabelPrompt
from jobs.llm.profiles import load_profile
from jobs.planning.forecast import Forecast, Work, forecast
from jobs.planning.rates import Rates, measured_rates
from jobs.planning.work import prompt_sizes
from jobs.settings import LabelSettings, Settings
from jobs.storage import Tables
from jobs.students import embedding_cache, student_of_night
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


def _trusted(tables: Tables, ds: str, tag_ids: tuple[str, ...]) -> tuple[frozenset[str], str]:
    """Tags the LLM may decide by the newest night that compared both labellers, all of them where none did."""
    rows = tables.read_all("llm_trust", until=ds).collect()
    if not rows:
        return frozenset(tag_ids), "No night has compared the labellers yet: all tags may go to the LLM (upper bound)."
    newest = max(row["ds"] for row in rows)
    decides = frozenset(r["tag_id"] for r in rows if r["ds"] == newest and r["llm_decides"]) & frozenset(tag_ids)
    return decides, f"The LLM decides {len(decides)} of {len(tag_ids)} tags, as measured on {newest}."


def _bands(tables: Tables, ds: str, tag_ids: tuple[str, ...], label: LabelSettings) -> Bands:
    """Where the student is sure, by the newest night that made promises about these tags."""
    rows = [row.asDict() for row in tables.read_all("tag_promises", until=ds).collect()]
    newest = max((row["ds"] for row in rows), default="")
    found = {row["tag_id"]: row for row in rows if row["ds"] == newest}
    if not set(tag_ids) <= set(found):
        return Bands.plain(len(tag_ids), label.unsure_low, label.unsure_high)
    names = [field.name for field in fields(Promise)]
    promises = [Promise(**{name: found[tag_id][name] for name in names}) for tag_id in tag_ids]
    return Bands.of(promises, label.unsure_low, label.unsure_high)


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
    prompt = LabelPrompt(taxonomy, profile)
    decides, trust_note = _trusted(tables, ds, taxonomy.tag_ids)
    work = _work(tables, settings, ds, LlmPass(tables, settings, ds, taxonomy, prompt), decides)
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
        (trust_note, *_notes(work, rates)),
    )
    path = settings.var_dir / "plans" / f"{ds}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n", "utf-8")
    return found


def _work(tables: Tables, settings: Settings, ds: str, llm: LlmPass, decides: frozenset[str]) -> Work:
    tag_ids = llm.prompt.tag_ids
    folder, cache = student_of_night(settings, ds)[1], embedding_cache(settings)
    bands = _bands(tables, ds, tag_ids, settings.label)
    todo, gold = candidates(tables, ds), gold_candidates(tables, ds, "calibration", "test")
    # As the label stage asks: all of calibration gold, then what the student is unsure of in gold and night.
    questions = all_questions(gold.where(F.col("split") == "calibration"), tag_ids)
    if decides:
        for frame, left_out in ((gold, True), (todo, False)):
            views = student_views(frame, folder, cache, bands, left_out=left_out)
            questions = questions.unionByName(unsure_questions(views, tag_ids, decides))
    missing = missing_contents(tables, llm.keys(questions.distinct()), ds).persist(StorageLevel.DISK_ONLY)
    try:
        counts = missing.agg(F.count("*").alias("contents"), F.sum(F.size("tags")).alias("tags")).collect()[0]
        texts = todo.select("content_hash", "turns").unionByName(gold.select("content_hash", "turns"))
        texts = texts.dropDuplicates(["content_hash"]).join(missing, "content_hash", "left_semi")
        windows, tokens = prompt_sizes(texts, llm.prompt)
        asked, open_questions = int(counts["contents"]), int(counts["tags"] or 0)
        return Work(todo.count(), gold.count(), asked, open_questions, windows, tokens)
    finally:
        missing.unpersist()
