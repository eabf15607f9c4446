"""Stage label: every conversation of the night gets its tags, the student first, the LLM where the student is unsure.

In order: the LLM answers calibration gold and so earns, tag by tag, the right to decide; gold says which tags can be
promised and with what thresholds; the LLM is asked what the student is unsure of; every conversation is concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.cascade import MINIMUM_ANSWERED, Bands
from jobs.contracts import load_contract
from jobs.cost_curve import CostPoint, choose_band
from jobs.errors import GateError
from jobs.gate_verdicts import give_verdict
from jobs.guarantee import Target
from jobs.labelling.backlog import candidates
from jobs.labelling.conclude import Rules, conclude
from jobs.labelling.gold_pass import (
    compare,
    gold_candidates,
    gold_labels,
    predictions,
    verdicts_by_content,
)
from jobs.labelling.llm_pass import Asked, LlmPass, Say
from jobs.labelling.questions import all_questions, unsure_questions, with_whole
from jobs.labelling.student_pass import student_views
from jobs.labelling.trial import try_llm
from jobs.labelling.usage import Spent
from jobs.llm.labelling import LabelPrompt
from jobs.llm.profiles import load_profile
from jobs.parameters import saves_periodically
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.students import embedding_source, student_for
from jobs.taxonomies.store import approved_taxonomy
from jobs.taxonomy import Taxonomy

EMPTY_NIGHT = 10
"""A night with this many conversations and not one tag is taken for a failure."""


@dataclass(frozen=True, slots=True)
class LabelResult:
    """Counts of one night. `dead_letters`: requests that came to no usable answer tonight, with all their retries."""

    conversations: int
    labelled: int
    pending: int
    dead: int
    tags: int
    llm_requests: int
    dead_letters: int
    llm_tags: tuple[str, ...]
    spent: Spent

    def __str__(self) -> str:
        rate = self.spent.hit_rate
        cache = "" if rate is None else f" (prefix cache: {rate:.0%} of {self.spent.prefix_queries} prompt tokens)"
        return (
            f"{self.conversations} conversations: {self.labelled} labelled, {self.pending} pending, {self.dead} dead; "
            f"{self.tags} tags; {self.llm_requests} LLM requests{cache}, {self.dead_letters} dead letters; "
            f"the LLM decides {len(self.llm_tags)} tags"
        )


class _Night:
    """One run of the stage; holds what its steps share."""

    def __init__(self, tables: Tables, settings: Settings, ds: str, say: Say) -> None:
        self.tables, self.settings, self.ds, self.say = tables, settings, ds, say
        self.taxonomy: Taxonomy = approved_taxonomy(settings, ds)
        self.student_key, self.folder = student_for(settings, ds, self.taxonomy.tag_ids)
        self.prompt = LabelPrompt(self.taxonomy, load_profile(settings), overlap=settings.label.window_overlap)
        self.llm = LlmPass(tables, settings, ds, self.taxonomy, self.prompt)
        self.spent, self.dead_letters, self.outage = Spent(), 0, ""
        label = settings.label
        self.bands = Bands.plain(len(self.taxonomy.tag_ids), label.unsure_low, label.unsure_high)
        tags = self.taxonomy.tags
        self.rules = Rules(
            self.taxonomy.tag_ids,
            frozenset(),
            {},
            {tag.id: tag.parameters for tag in tags},
            frozenset(tag.id for tag in tags if saves_periodically(tag.definition)),
        )

    def views(self, conversations: DataFrame, *, left_out: bool = False) -> DataFrame:
        """What the student says, with the bands of the night."""
        views = student_views(
            conversations, self.folder, embedding_source(self.settings), self.bands, left_out=left_out
        )
        return views.persist(StorageLevel.DISK_ONLY)

    def settle(self) -> None:
        """Ask the LLM about calibration gold, compare, promise: sets the night's rules and bands."""
        learned = gold_candidates(self.tables, self.ds, "train", "calibration")
        views = self.views(learned, left_out=True)
        seen = views.join(learned.select("conversation_id", "split"), "conversation_id")
        rows = sorted((row.asDict(recursive=True) for row in seen.collect()), key=lambda row: row["conversation_id"])
        views.unpersist()
        labels = gold_labels(self.tables, self.ds, "train", "calibration")
        trial = try_llm(
            self.llm,
            learned.where(F.col("split") == "calibration"),
            rows,
            labels,
            # Files of requests go to somebody else: a trip for every block would take a night each.
            in_blocks=self.settings.llm.mode == "server",
            ask=lambda questions, texts: self.ask(questions, texts, "calibration gold"),
        )
        if trial.given_up:
            self.say(f"LLM, calibration gold: {trial.given_up}")
        gate, label = self.settings.gate, self.settings.label
        target = Target(gate.target_precision, gate.target_recall, gate.confidence)
        band = (label.unsure_low, label.unsure_high)
        look = partial(compare, labels, rows, tag_ids=self.rules.tag_ids, target=target, band=band)
        found = look(trial.verdicts, given_up=trial.given_up)
        # Nobody is asked tonight: a promise must not rest on earlier answers, nor must the student's bands.
        trust, promised = found.trust, found.promised if label.llm else look({}).promised
        decides = frozenset(t.tag_id for t in trust if t.llm_decides)
        held = len({row["content_hash"] for row in rows if row["split"] == "calibration"})
        if trial.asked.outage and trust and trust[0].compared < MINIMUM_ANSWERED * held:
            # Nobody knows yet whom to trust: what the student is unsure of waits for a night with an LLM.
            self.say(f"whom to trust is not known tonight ({trial.asked.outage}): unsure tags wait")
            decides = frozenset(self.rules.tag_ids)
        decides |= {p.tag_id for p in promised if p.promised == "cascade"}
        if not label.llm:
            decides = frozenset()
        self.rules = replace(self.rules, llm_tags=decides, llm_precision={t.tag_id: t.llm_precision for t in trust})
        choice = choose_band(found.costs if label.llm else (), band, label.band)
        self.bands = Bands.of(promised, *choice.band)
        self.rules = replace(self.rules, whole=choice.whole_tags(promised, decides))
        self.say(f"promised: {sum(p.promised != 'none' for p in promised)} of {len(promised)} tags")
        self.write("llm_trust", [asdict(t) for t in trust])
        self.write("tag_promises", [asdict(p) for p in promised])
        self.write("band_costs", [asdict(c) for c in choice.points])
        self._say_band(choice.points)

    def _say_band(self, costs: Sequence[CostPoint]) -> None:
        for point in (c for c in costs if c.chosen):
            self.say(
                f"unsure from {point.low:g} to {point.high:g}: {point.asked} of {point.conversations} conversations of "
                f"calibration gold are asked about; over all tags precision at least {point.precision_low:.3f}, recall "
                f"at least {point.recall_low:.3f}: target {'proven' if point.proven else 'not proven'}"
                + ("; the LLM decides all its tags of these conversations" if point.whole else "")
            )

    def ask(self, questions: DataFrame, texts: DataFrame, what: str) -> Asked:
        """Ask the LLM what is not settled yet, and count it for the night."""
        asked = self.llm.ask(questions, texts, what, self.say)
        self.spent += asked.spent
        self.dead_letters += asked.unusable
        self.outage = f" ({asked.outage})" if asked.outage else self.outage
        return asked

    def write(self, name: str, rows: Sequence[dict[str, object]]) -> None:
        """Write driver-side rows as night `ds` of a table."""
        schema = StructType([f for f in load_contract(name).spark_schema() if f.name != "ds"])
        values = [tuple(row[f.name] for f in schema) for row in rows]
        self.tables.write(name, self.tables.spark.createDataFrame(values, schema), self.ds)

    def labels(self, concluded: DataFrame) -> DataFrame:
        """Nested rows as rows of `labels`."""
        flat = concluded.select("conversation_id", "conversation_ds", "content_hash", F.explode("rows").alias("r"))
        by_llm = F.col("r.labeller") == "llm"
        hashes = [F.lit(x) for tag in self.taxonomy.tags for x in (tag.id, tag.definition_hash)]
        return flat.select(
            *("conversation_id", "conversation_ds", "content_hash", "r.*"),
            F.when(by_llm, F.lit(self.prompt.profile.served_model_name))
            .otherwise(F.lit(f"student-{self.student_key}"))
            .alias("model"),
            F.lit(self.taxonomy.version).alias("taxonomy_version"),
            F.create_map(*hashes)[F.col("r.tag_id")].alias("tag_hash"),
            F.when(by_llm, F.lit(self.prompt.prompt_hash)).alias("prompt_hash"),
        )


def _gold_pass(night: _Night) -> None:
    """What `score` measures: calibration and test gold, labelled by the rules of the night."""
    gold = gold_candidates(night.tables, night.ds, "calibration", "test")
    views = night.views(gold, left_out=True)
    try:
        if night.rules.llm_tags:
            unsure = unsure_questions(views, night.rules.tag_ids, night.rules.llm_tags)
            night.ask(night.llm.questions(unsure, gold), gold, "gold")
        questions = night.llm.questions(all_questions(gold, night.rules.tag_ids), gold)
        verdicts = verdicts_by_content(night.llm.answers(questions))
        seen = views.join(gold.select("conversation_id", "split", "turns"), "conversation_id")
        rows = [row.asDict(recursive=True) for row in seen.collect()]
        found, waiting = predictions(rows, verdicts, night.rules)
        if waiting:
            night.say(
                f"{waiting} of {len(rows)} conversations of gold wait for the LLM: `score` takes their unsure tags as "
                "the student has them, the profiles get such tags when the LLM has answered"
            )
        night.write("gold_predictions", found)
    finally:
        views.unpersist()


def label(tables: Tables, settings: Settings, ds: str, say: Say = print) -> LabelResult:
    """Run the stage for night `ds`.

    Raises:
        InputError: the night was not ingested, or has no gold or student, or one of another version's tags.
        GateError: there were conversations, but not one could be concluded, or none got a tag.
    """
    tables.read("conversations", ds)  # a night that is not there pays for no answer about gold
    night = _Night(tables, settings, ds, say)
    night.settle()
    _gold_pass(night)
    todo = candidates(tables, ds).persist(StorageLevel.DISK_ONLY)
    views = night.views(todo)
    try:
        count = todo.count()
        say(f"student: {count} conversations")
        unsure = unsure_questions(views, night.rules.tag_ids, night.rules.llm_tags)
        if night.rules.llm_tags:
            night.ask(night.llm.questions(unsure, todo), todo, "night")
        answers = night.llm.answers(night.llm.questions(with_whole(unsure, night.rules.whole), todo))
        concluded = conclude(todo, views, answers, night.rules).persist(StorageLevel.DISK_ONLY)
        # Before the labels: those of a run that is killed here must not pass for the ones that were judged.
        give_verdict(tables, ds, "open")
        tables.write("labels", night.labels(concluded), ds)
        tables.write("label_outcomes", concluded, ds)
        totals = {row["status"]: row for row in concluded.groupBy("status").agg(F.count("*").alias("n")).collect()}
        tags = concluded.agg(F.coalesce(F.sum("tags"), F.lit(0))).collect()[0][0]
        concluded.unpersist()
    finally:
        views.unpersist()
        todo.unpersist()
    number = {status: int(row["n"]) for status, row in totals.items()}
    result = LabelResult(
        count,
        number.get("labelled", 0),
        number.get("pending", 0),
        number.get("dead", 0),
        int(tags),
        night.spent.requests,
        night.dead_letters,
        tuple(sorted(night.rules.llm_tags)),
        night.spent,
    )
    _refuse_empty(result, ds, night.outage)
    return result


def _refuse_empty(result: LabelResult, ds: str, outage: str) -> None:
    if result.conversations and not result.labelled + result.dead:
        raise GateError(
            f"label {ds}: none of {result.conversations} conversations could be labelled{outage}: is the LLM up, or "
            f"with llm.mode files, were its requests run (`python -m jobs batch status --ds {ds}`)?"
        )
    if result.conversations >= EMPTY_NIGHT and not result.tags:
        raise GateError(f"label {ds}: {result.conversations} conversations and not one tag; see the student's scores")
