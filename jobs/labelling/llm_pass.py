"""The LLM's pass: questions without an answer are asked in waves by Spark tasks, and every wave is committed.

A killed night has paid for at most one wave that it lost; the next try asks exactly what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow_tasks import map_in_arrow
from jobs.labelling.asker import ANSWERS, COUNTS, asker
from jobs.labelling.dead_letters import letters
from jobs.labelling.questions import UNUSABLE, answers_of, missing_contents, settled, waves, with_keys
from jobs.labelling.usage import Spent, prefix_counts, record
from jobs.labelling.wave_size import WaveSize
from jobs.labelling.windows import windowed, with_texts
from jobs.llm.client import FailureKind, in_flight_bound
from jobs.llm.labelling import LabelPrompt
from jobs.llm.offline import OfflineFolder
from jobs.llm.probe import read_metrics
from jobs.llm.refusals import REFUSED_TO_ALL
from jobs.llm.run_batch import offline_folder, run_batch
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomy import Taxonomy

Say = Callable[[str], None]
_ALL_REFUSED = 8
"""So many requests refused, each for its own sake as it seems, and none answered all night: it is not theirs."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pass sent and got: contents are windows, requests count retries.

    `outage` says why the pass was cut short, if it was.
    """

    contents: int
    requests: int
    unusable: int
    outage: str | None
    spent: Spent


class LlmPass:
    """Asks the LLM about conversations and remembers the answers in `llm_answers` of night `ds`."""

    def __init__(self, tables: Tables, settings: Settings, ds: str, taxonomy: Taxonomy, prompt: LabelPrompt) -> None:
        self.tables, self.settings, self.ds, self.prompt = tables, settings, ds, prompt
        self._hashes = {tag_id: taxonomy.tag(tag_id).definition_hash for tag_id in prompt.tag_ids}
        # Every Spark task has a client of its own: together they keep to the limit.
        most = in_flight_bound(prompt.profile, settings.llm)
        self._askers = max(1, min(settings.llm.tasks, most))
        in_flight = max(1, most // self._askers)
        self._llm = settings.llm.model_copy(update={"in_flight": in_flight})
        self._offline = None if settings.llm.mode == "server" else offline_folder(settings, ds)
        self._asked_by_files = False
        self._refusals_of_all = _ALL_REFUSED

    def questions(self, questions: DataFrame, texts: DataFrame) -> DataFrame:
        """Questions (content_hash, tag_id) as they are asked: window by window, with their answer keys.

        Args:
            questions: rows (content_hash, tag_id).
            texts: rows (content_hash, turns) of at least these contents.

        Returns:
            conversation_hash, content_hash (of the window), windows, tag_id, answer_key.
        """
        return self._keyed(windowed(questions, texts, self.prompt))

    def _keyed(self, frame: DataFrame) -> DataFrame:
        return with_keys(frame, self._hashes, self.prompt.prompt_hash, self.prompt.profile.served_model_name)

    def answers(self, questions: DataFrame) -> DataFrame:
        """What is known of these `questions` by now, under their conversations' hashes; a row a window and tag."""
        place = F.col("conversation_hash").alias("content_hash")
        places = questions.select("answer_key", place, "windows").distinct()
        return answers_of(self.tables, questions).drop("content_hash").join(places, "answer_key")

    def missing(self, questions: DataFrame) -> DataFrame:
        """Windows of `questions` to be asked about, as `missing_contents` gives them."""
        return missing_contents(self.tables, questions, self.ds)

    def ask(self, questions: DataFrame, texts: DataFrame, what: str, say: Say) -> Asked:
        """Ask what is not settled yet.

        Args:
            questions: as `questions` gives them.
            texts: rows (content_hash, turns) of at least their conversations.
            what: for the progress lines.
        """
        if not self.settings.label.llm:
            say(f"LLM, {what}: switched off (label.llm)")
            return Asked(0, 0, 0, None, Spent())
        if self._offline is None:
            return self._ask_missing(questions, texts, what, say)
        return self._ask_by_files(self._offline, questions, texts, what, say)

    def _ask_by_files(
        self, folder: OfflineFolder, questions: DataFrame, texts: DataFrame, what: str, say: Say
    ) -> Asked:
        """In turns: write what is not answered yet, have it run (mode batch), read the answers, ask bad ones again."""
        rounds = self.settings.llm.retries + 2 if self.settings.llm.mode == "batch" else 1
        contents, unusable, spent, waiting = 0, 0, Spent(), 0
        if not self._asked_by_files:
            # What an earlier run wanted, of another prompt or definition, may be wanted no more.
            folder.want_nothing()
            self._asked_by_files = True
        for _ in range(rounds):
            folder.collect()
            found = self._ask_missing(questions, texts, what, say)
            contents, unusable, spent = max(contents, found.contents), unusable + found.unusable, spent + found.spent
            waiting = folder.collect().open
            if not waiting:
                return Asked(contents, spent.requests, unusable, None, spent)
            if self.settings.llm.mode == "batch":
                run_batch(self.settings, self.ds, most=self.settings.llm.batch_size, say=say)
        say(f"LLM, {what}: {waiting} requests wait in {folder.folder}: `python -m jobs batch run --ds {self.ds}`")
        return Asked(contents, spent.requests, unusable, f"{waiting} requests wait for `batch run`", spent)

    def _ask_missing(self, questions: DataFrame, texts: DataFrame, what: str, say: Say) -> Asked:
        missing = self.missing(questions).persist()
        try:
            total = missing.count()
            if not total:
                say(f"LLM, {what}: nothing to ask")
                return Asked(0, 0, 0, None, Spent())
            return self._ask(missing, total, texts, what, say)
        finally:
            missing.unpersist()

    def _ask(self, missing: DataFrame, total: int, texts: DataFrame, what: str, say: Say) -> Asked:
        spent, unusable, outage = Spent(), 0, None
        counters, began = read_metrics(self.prompt.profile), time.monotonic()
        wave_size = WaveSize(self.settings.label.wave_size, self.settings.label.wave_seconds)
        for wave in waves(missing, lambda: wave_size.size):
            started = time.monotonic()
            counts, bad, outage = self._wave(with_texts(wave, texts))
            wave_size.took(counts.conversations, time.monotonic() - started)
            spent, unusable = spent + counts, unusable + bad
            say(
                f"LLM, {what}: {spent.conversations} of {total} prompts, {spent.requests} requests, "
                f"{unusable} without usable answer"
            )
            if outage is not None and self._offline is None:
                say(f"LLM, {what}: stopped, {outage}; what is missing is asked again later")
                break
        queries, hits = prefix_counts(counters, read_metrics(self.prompt.profile))
        seconds = time.monotonic() - began
        spent = replace(spent, seconds=seconds, prefix_queries=queries, prefix_hits=hits)
        if outage is None and self._offline is None:
            # Minutes of waiting for a server that is down would spoil the measured rates.
            record(self.tables, self.ds, what, self.prompt, spent)
        return Asked(spent.conversations, spent.requests, unusable, outage, spent)

    def _wave(self, contents: DataFrame) -> tuple[Spent, int, str | None]:
        rows = map_in_arrow(
            contents.repartition(self._askers), asker(self.prompt, self._llm, self._offline), ANSWERS
        ).persist(StorageLevel.DISK_ONLY)
        try:
            unusable, failed = F.col("verdict") == UNUSABLE, F.col("verdict").isNull()
            rejected = F.col("failure") == FailureKind.REJECTED
            found = rows.agg(
                F.countDistinct("content_hash").alias("conversations"),
                *(F.sum(name).alias(name) for name in COUNTS),
                F.countDistinct(F.when(unusable, F.col("content_hash"))).alias("unusable"),
                F.countDistinct(F.when(failed, F.col("content_hash"))).alias("failed"),
                F.countDistinct(F.when(rejected, F.col("content_hash"))).alias("rejected"),
                F.first(F.when(failed, F.concat_ws(": ", "failure", "reason")), ignorenulls=True).alias("why"),
            ).collect()[0]
            counts = {name: found[name] for name in ("conversations", *COUNTS)}
            # A refused request is not sent again: as many requests as refusals are nothing but refusals.
            if found["requests"] == found["rejected"] >= self._refusals_of_all and not self._answered_tonight():
                self._refusals_of_all = 1
                return Spent(**counts), 0, f"all {found['rejected']} requests were refused: {REFUSED_TO_ALL}"
            self._commit(rows, contents, found["unusable"] > 0)
            outage = None
            if found["failed"] and found["failed"] >= found["conversations"] / 2:
                outage = f"{found['failed']} of {found['conversations']} prompts failed: {found['why']}"
            return Spent(**counts), int(found["unusable"]), outage
        finally:
            rows.unpersist()

    def _answered_tonight(self) -> bool:
        own = (F.col("ds") == self.ds) & (F.col("model") == self.prompt.profile.served_model_name)
        return not self.tables.read_all("llm_answers").where(own & (F.col("verdict") != UNUSABLE)).isEmpty()

    def _commit(self, rows: DataFrame, contents: DataFrame, with_letters: bool) -> None:
        keyed = self._keyed(rows).withColumn("model", F.lit(self.prompt.profile.served_model_name))
        answered = keyed.where(F.col("verdict").isNotNull())
        known = settled(answers_of(self.tables, answered), self.ds).select("answer_key")
        fresh = answered.join(known, "answer_key", "left_anti")
        if with_letters:
            # Letters first: killed in between, a letter is written twice; the other way round it would be lost.
            self.tables.append("dead_letters", letters(fresh, contents, self.prompt), self.ds)
        self.tables.append("llm_answers", fresh, self.ds)
