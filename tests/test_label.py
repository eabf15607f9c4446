from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs.conversation import Conversation, Turn
from jobs.cost_curve import Choice
from jobs.errors import GateError, InputError
from jobs.gate_verdicts import give_verdict, not_passed
from jobs.gold import gold
from jobs.ingest import ingest
from jobs.label import LabelResult, label
from jobs.labelling.gold_pass import Compared, compare
from jobs.labelling.lessons import llm_lessons
from jobs.labelling.standing import standing
from jobs.labelling.usage import spent_on, usage_metrics
from jobs.llm.run_batch import offline_folder
from jobs.plan import Plan, plan
from jobs.planning.table import plan_table
from jobs.score import score
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.student.model import Student
from jobs.students import student_of_night
from jobs.taxonomies.review import Reviewer, approve
from jobs.taxonomies.store import approved_taxonomy
from jobs.train import train
from tests.fake_llm import FakeLlm, Reply, reply_json, reply_status, reply_whitespace
from tests.small_night import (
    FOURTH,
    KNOWN,
    NEEDED,
    NOBODY,
    SECOND,
    TAXONOMY,
    THIRD,
    WORDS,
    answer_files,
    at,
    chat,
    in_waves,
    oracle,
    outcomes,
    prepare,
    put,
    run,
)

pytestmark = pytest.mark.spark


def plan_in_words(found: Plan) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(plan_table(found))
    return console.export_text()


def test_the_llm_earns_its_say_and_a_replay_asks_nothing(tables: Tables, night: Settings) -> None:
    with FakeLlm(oracle) as fake:
        result = run(tables, night, SECOND, fake.base_url)
        paid = len(fake.requests)
        assert set(result.llm_tags) == {"maturity", "redemption"}
        # Calibration and the night; test gold has the texts of calibration, and equal content is asked once.
        assert result.llm_requests == paid == 9 + 5
        rows = tables.read("labels", SECOND).collect()
        assert {(r["tag_id"], r["labeller"]) for r in rows} == {("maturity", "llm")}
        assert all(r["evidence"][0]["quote"] == "满期" for r in rows)
        trust = {r["tag_id"]: r for r in tables.read("llm_trust", SECOND).collect()}
        assert trust["maturity"]["llm_errors"] == 0 < trust["maturity"]["student_errors"]
        promises = {r["tag_id"]: r for r in tables.read("tag_promises", SECOND).collect()}
        assert set(promises) == set(trust)
        # Of 39 conversations three are copies, and 36 cannot prove 0.90: nothing is promised, the settings' band stays.
        assert {r["promised"] for r in promises.values()} == {"none"}
        assert all(r["gold"] == 36 and r["positives"] == 13 for r in promises.values())
        assert (score(tables, night, SECOND).precision, score(tables, night, SECOND).recall) == (1.0, 1.0)
        before = sorted(map(str, rows))
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        assert len(fake.requests) == paid
        assert sorted(map(str, tables.read("labels", SECOND).collect())) == before
        # A renamed tag costs nothing; a redefined one is asked again.
        taxonomy = Path(night.label.taxonomy)
        taxonomy.write_text(TAXONOMY.replace("到期承接", "到期"), "utf-8")
        prepare(tables, night, SECOND)
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        taxonomy.write_text(TAXONOMY.replace("客户想卖出或转走。", "客户要把钱拿走。"), "utf-8")
        prepare(tables, night, SECOND)
        assert run(tables, night, SECOND, fake.base_url).llm_requests == paid


def test_a_night_that_was_not_ingested_pays_for_no_answer(tables: Tables, night: Settings) -> None:
    shutil.rmtree(tables.path("conversations", SECOND))
    with FakeLlm(oracle) as fake:
        with pytest.raises(InputError, match=f"table conversations has no complete night {SECOND}"):
            run(tables, night, SECOND, fake.base_url)
        assert fake.requests == []


def test_an_approved_version_asks_only_for_what_it_changed(tables: Tables, labelled: Settings, tmp_path: Path) -> None:
    """Questions are counted in `llm_answers`: a row for each (content, tag) that was asked."""
    draft, ana, night = tmp_path / "draft.yaml", Reviewer("Ana"), labelled
    first = tables.read_all("llm_answers").count()
    assert first == 2 * NEEDED  # two tags a conversation
    with FakeLlm(oracle) as fake:
        draft.write_text(TAXONOMY.replace("version: 3", "version: 4").replace("到期承接", "到期"), "utf-8")
        approve(night, ana, file=draft, from_ds=SECOND)
        prepare(tables, night, SECOND)
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        assert {r["taxonomy_version"] for r in tables.read("labels", SECOND).collect()} == {4}
        draft.write_text(
            draft.read_text("utf-8").replace("version: 4", "version: 5").replace("想卖出或转走", "要拿走钱"), "utf-8"
        )
        approve(night, ana, file=draft, from_ds=SECOND)
        prepare(tables, night, SECOND)
        assert run(tables, night, SECOND, fake.base_url).llm_requests == NEEDED
        again = tables.read_all("llm_answers").collect()
        assert len(again) == first + NEEDED
        assert Counter(r["tag_id"] for r in again) == {"maturity": NEEDED, "redemption": 2 * NEEDED}


def test_a_version_approved_after_the_night_was_labelled_does_not_score_it(
    tables: Tables, labelled: Settings, tmp_path: Path
) -> None:
    """Gold has the ids of before a merge, the version in force those of after it: nothing would be left to count."""
    draft = tmp_path / "draft.yaml"
    merged = "  - {id: leaving, name: 离开, definition: 到期或转走。, replaces: [maturity, redemption]}"
    draft.write_text(TAXONOMY.replace("version: 3", "version: 4").split("  - {")[0] + merged, "utf-8")
    approve(labelled, Reviewer("Ana"), file=draft, from_ds=SECOND)
    with pytest.raises(InputError, match=r"tags of version 3, and version 4 was approved since.*clear `gold`"):
        score(tables, labelled, SECOND)


def test_a_promised_tag_is_the_students_and_costs_no_request(tables: Tables, night: Settings) -> None:
    """With targets that this gold does prove, nothing is passed on to the LLM although every tag is unsure."""
    gate = night.gate.model_copy(update={"target_precision": 0.02, "target_recall": 0.02})
    with FakeLlm(oracle) as fake:
        give_verdict(tables, SECOND, "passed")
        result = run(tables, night.model_copy(update={"gate": gate}), SECOND, fake.base_url)
    assert not_passed(tables, SECOND) == {SECOND: "open"}, "labels written anew are still to be judged"
    promises = tables.read("tag_promises", SECOND).collect()
    assert {r["promised"] for r in promises} == {"student"}
    assert all(r["accept_at"] == r["reject_at"] for r in promises)
    assert result.llm_requests == len(fake.requests) == 9  # calibration gold only
    assert {r["labeller"] for r in tables.read("labels", SECOND).collect()} == {"student"}


def test_the_cheapest_proven_band_is_chosen_kept_and_planned_with(tables: Tables, night: Settings) -> None:
    """A target that six labels prove over all tags together, but no tag alone; the settings call every tag unsure."""
    gate = night.gate.model_copy(update={"target_precision": 0.45, "target_recall": 0.45})
    label = night.label.model_copy(update={"band": "proven"})
    thrifty = night.model_copy(update={"gate": gate, "label": label})
    with FakeLlm(oracle) as fake:
        run(tables, thrifty, SECOND, fake.base_url)
        paid = len(fake.requests)
        run(tables, thrifty, SECOND, fake.base_url)
        assert len(fake.requests) == paid
    assert {r["promised"] for r in tables.read("tag_promises", SECOND).collect()} == {"none"}
    rows = tables.read("band_costs", SECOND).collect()
    (chosen,) = (row for row in rows if row["chosen"])
    assert chosen["proven"] and chosen["asked"] == min(row["asked"] for row in rows if row["proven"])
    assert (chosen["low"], chosen["high"]) != (label.unsure_low, label.unsure_high)
    found = standing(tables, SECOND, ("maturity", "redemption"), label)
    assert found.bands.low == (chosen["low"],) * 2 and found.bands.high == (chosen["high"],) * 2
    assert standing(tables, SECOND, ("maturity", "redemption"), night.label).bands.low == (label.unsure_low,) * 2


def test_an_answer_counts_for_what_the_student_is_sure_of_at_no_request(
    tables: Tables, night: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student is sure of redemption and unsure of maturity; the LLM sees maturity alone."""
    said = chat("both", f"{KNOWN['redemption']} 满期", THIRD)
    put(night, THIRD, [said])
    ingest(tables, night, THIRD)
    prepare(tables, night, THIRD)
    turns = tuple(Turn(turn["speaker"], turn["text"]) for turn in said["turns"])
    student = Student.load(student_of_night(night, THIRD)[1])
    maturity, redemption = student.predict([Conversation("both", turns)]).probabilities[0].tolist()
    assert redemption > maturity + 0.1
    band = (maturity - 0.01, maturity + 0.05)

    def only_maturity(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        if KNOWN["redemption"] in text and "满期" in text:
            return reply_json({"tags": [{"tag": "maturity", "turns": [0], "quote": "满期"}], "cannot_tell": False})
        return oracle(body)

    found, paid = [], []
    with FakeLlm(only_maturity) as fake:
        for whole in (False, True):
            monkeypatch.setattr("jobs.label.choose_band", lambda *_, whole=whole: Choice(band, whole, ()))
            run(tables, night, THIRD, fake.base_url)
            rows = tables.read("labels", THIRD).where("conversation_id = 'both'").collect()
            found.append({(row["tag_id"], row["labeller"]) for row in rows})
            paid.append(len(fake.requests))
    assert found == [{("maturity", "llm"), ("redemption", "student")}, {("maturity", "llm")}]
    assert paid[0] == paid[1]


def test_switched_off_the_llm_is_not_asked_and_nothing_rests_on_it(
    tables: Tables, labelled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It earned its say, and would be asked again on the next night; its answers would prove both tags for both."""

    def with_both(*args: Any, **kwargs: Any) -> Compared:
        found = compare(*args, **kwargs)
        both = [replace(p, promised="cascade", accept_at=0.999, reject_at=0.001) for p in found.promised]
        return replace(found, promised=both) if args[2] else found

    monkeypatch.setattr("jobs.label.compare", with_both)
    with FakeLlm(oracle) as fake:
        prepare(tables, labelled, THIRD)
        off = labelled.model_copy(update={"label": labelled.label.model_copy(update={"llm": False})})
        planned = plan(tables, at(off, fake.base_url), THIRD)
        result = run(tables, off, THIRD, fake.base_url)
        assert fake.requests == []
    assert (planned.work.conversations, planned.work.asked, planned.forecast.requests) == (2, 0, 0)
    assert "switched off" in plan_in_words(planned)
    assert (result.llm_tags, result.labelled, result.pending) == ((), 2, 0)
    assert {r["labeller"] for r in tables.read("labels", THIRD).collect()} == {"student"}
    assert {r["promised"] for r in tables.read("tag_promises", THIRD).collect()} == {"none"}


def test_a_student_of_other_tags_labels_no_night(tables: Tables, labelled: Settings, tmp_path: Path) -> None:
    """Its probabilities are read by place: with the tags of a later version they would be another tag's."""
    draft = tmp_path / "draft.yaml"
    draft.write_text(TAXONOMY.replace("version: 3", "version: 4").replace("id: redemption", "id: outflow"), "utf-8")
    approve(labelled, Reviewer("Ana"), file=draft, from_ds=SECOND)
    with FakeLlm(oracle) as fake:
        for use in (run, lambda *args: plan(tables, at(labelled, fake.base_url), SECOND)):
            with pytest.raises(InputError, match=f"train --ds {SECOND}"):
                use(tables, labelled, SECOND, fake.base_url)


def test_a_killed_night_pays_only_for_what_is_missing(
    tables: Tables, night: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[int] = []
    append = Tables.append

    def dying(self: Tables, name: str, frame: Any, ds: str) -> None:
        append(self, name, frame, ds)
        committed.append(1)
        if len(committed) == 2:
            raise KeyboardInterrupt

    with FakeLlm(oracle) as fake:
        monkeypatch.setattr(Tables, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tables, in_waves(night), SECOND, fake.base_url)
        monkeypatch.setattr(Tables, "append", append)
        assert len(fake.requests) == 8  # two waves of four
        run(tables, night, SECOND, fake.base_url)
        assert len(fake.requests) == 9 + 5


def test_an_outage_leaves_conversations_pending_and_the_next_night_picks_them_up(
    tables: Tables, labelled: Settings
) -> None:
    """The LLM is known and trusted when it goes away."""
    prepare(tables, labelled, THIRD)
    with pytest.raises(GateError, match="none of 2 conversations could be labelled"):
        run(tables, labelled, THIRD, NOBODY)
    assert {status for status, _ in outcomes(tables, THIRD).values()} == {"pending"}
    prepare(tables, labelled, FOURTH)
    with FakeLlm(oracle) as fake:
        result = run(tables, labelled, FOURTH, fake.base_url)
        assert (result.conversations, result.labelled, len(fake.requests)) == (4, 4, 4)
    assert outcomes(tables, FOURTH)[f"{THIRD}-0"] == ("labelled", 2)
    nights = Counter(r["conversation_ds"] for r in tables.read("labels", FOURTH).collect())
    assert nights == {THIRD: 2, FOURTH: 2}


@pytest.mark.parametrize(("status", "said"), [(500, "server_error: HTTP 500"), (402, "HTTP 402: .*balance")])
def test_while_the_llm_is_down_nobody_knows_whom_to_trust_and_all_waits(
    tables: Tables, night: Settings, status: int, said: str
) -> None:
    with FakeLlm(reply_status(status)) as fake, pytest.raises(GateError, match=f"{said}.*is the LLM up"):
        run(tables, night, SECOND, fake.base_url)
    assert {status for status, _ in outcomes(tables, SECOND).values()} == {"pending"}
    assert tables.read_all("llm_answers").isEmpty() and tables.read_all("dead_letters").isEmpty()


def test_a_server_that_refuses_each_request_for_its_own_sake_is_at_fault_itself(
    tables: Tables, night: Settings
) -> None:
    """Some providers answer 400 where the key is bad."""
    said: list[str] = []
    with FakeLlm(reply_status(400)) as fake, pytest.raises(GateError, match=r"all \d+ requests were refused: HTTP 400"):
        label(tables, at(night, fake.base_url), SECOND, say=said.append)
    assert any("stopped, all 9 requests were refused" in line for line in said)
    assert tables.read_all("dead_letters").isEmpty() and tables.read_all("llm_answers").isEmpty()
    with FakeLlm(oracle) as fake:
        result = run(tables, night, SECOND, fake.base_url)
        assert (len(fake.requests), result.labelled, result.dead_letters) == (NEEDED, 5, 0)


def test_one_that_has_answered_tonight_and_then_refuses_says_so_of_these(
    tables: Tables, night: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.labelling.llm_pass._ALL_REFUSED", 5)

    def long_ones(body: dict[str, Any]) -> Reply:
        return reply_status(400) if "第" in body["messages"][-1]["content"] else oracle(body)

    with FakeLlm(long_ones) as fake, pytest.raises(GateError, match="none of 5"):
        run(tables, night, SECOND, fake.base_url)
    assert {row["reason"] for row in tables.read_all("dead_letters").collect()} == {"rejected"}
    assert tables.read_all("dead_letters").count() == 5


def test_an_llm_that_never_answers_well_decides_nothing(tables: Tables, night: Settings) -> None:
    bad = cycle((Reply("Sure! The tags are maturity."), reply_whitespace(), Reply("{}")))
    with FakeLlm(lambda body: next(bad)) as fake:
        result = run(tables, night, SECOND, fake.base_url)
        assert result.llm_tags == ()
        assert {r["labeller"] for r in tables.read("labels", SECOND).collect()} == {"student"}
        sent = len(fake.requests)
        assert sent == 9 * 2  # each asked twice, then set aside
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        assert {r["verdict"] for r in tables.read("llm_answers", SECOND).collect()} == {"unusable"}


def test_the_plan_asks_nothing_and_comes_true(tables: Tables, night: Settings) -> None:
    with FakeLlm(oracle) as fake:
        here = at(night, fake.base_url)
        first = plan(tables, here, SECOND)
        assert fake.requests == []
        # Nine texts of gold (test gold repeats calibration's) and five of the night, each with two tags.
        assert (first.work.conversations, first.work.asked, first.work.questions) == (5, 14, 28)
        assert first.forecast.requests == 14 and first.forecast.prompt_tokens_estimated
        assert (first.rates, first.forecast.output_tokens, first.forecast.seconds) == (None, None, None)
        assert "not measured yet" in plan_in_words(first)

        result = run(tables, night, SECOND, fake.base_url)
        assert result.llm_requests == first.forecast.requests
        spent = spent_on(tables, SECOND)
        assert (spent.requests, spent.prompt_tokens, spent.cached_tokens, spent.output_tokens) == (14, 1400, 1120, 140)
        assert spent.seconds > 0 and spent.prefix_queries is None, "this server counts no prefix cache"
        assert usage_metrics(tables, SECOND)["llm.prompt_tokens"] == 1400
        assert plan(tables, here, SECOND).forecast.requests == 0, "everything is answered"

        prepare(tables, night, THIRD)
        priced = here.model_copy(update={"cost": here.cost.model_copy(update={"gpu_hour": 20.0, "currency": "CNY"})})
        third = plan(tables, priced, THIRD)
        assert (third.work.asked, third.forecast.requests) == (2, 2)
        made = third.forecast
        assert (made.prompt_tokens, made.cached_tokens, made.computed_tokens, made.output_tokens) == (200, 160, 40, 20)
        assert made.seconds == pytest.approx(2 * spent.seconds / 14)
        assert (made.gpu_hours, made.gpu_money) == (None, None), "this profile does not say how many GPUs"
        saved = json.loads((night.var_dir / "plans" / f"{THIRD}.json").read_text("utf-8"))
        assert saved["forecast"]["requests"] == 2 and saved["rates"]["nights"] == [SECOND]
        paid = len(fake.requests)
        assert run(tables, night, THIRD, fake.base_url).llm_requests == len(fake.requests) - paid == 2


def test_the_student_learns_what_a_trusted_llm_said_on_earlier_nights(tables: Tables, labelled: Settings) -> None:
    there = at(labelled, NOBODY)
    assert {row["tag_id"] for row in tables.read("llm_trust", SECOND).where("llm_decides").collect()} == {*WORDS}
    gold(tables, labelled, THIRD)
    taught = train(tables, there, THIRD, say=lambda text: None)
    again = train(tables, there, THIRD, say=lambda text: None)
    replay = train(tables, there, SECOND, say=lambda text: None)
    arrays = taught.path / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-100])
    mended = train(tables, there, THIRD, say=lambda text: None)
    assert (mended.trained, mended.key) == (True, taught.key)
    assert Student.load(mended.path).tags == tuple(WORDS)
    assert (taught.lessons, taught.trained) == (5, True)  # the night's five; gold was asked about too and is none
    assert (again.lessons, again.trained, again.key) == (5, False, taught.key)
    assert (replay.lessons, replay.trained) == (0, False)  # its own answers come after its training
    other = there.model_copy(update={"llm": there.llm.model_copy(update={"model": "another"})})
    assert train(tables, other, THIRD, say=lambda text: None).lessons == 0  # not its answers
    # Redacted by newer rules than the night was, gold has other contents; it is the same conversations all the same.
    newer = tables.read("gold", THIRD).withColumn("content_hash", F.reverse("content_hash")).persist()
    tables.write("gold", newer, THIRD)
    assert len(llm_lessons(tables, there, THIRD, approved_taxonomy(there, THIRD))) == 5


def test_without_a_server_requests_are_files_and_each_is_written_once(tables: Tables, night: Settings) -> None:
    there = at(night, NOBODY)
    offline = there.model_copy(update={"llm": there.llm.model_copy(update={"mode": "files"})})
    folder = offline_folder(offline, SECOND)

    def again() -> LabelResult:
        return label(tables, offline, SECOND, say=lambda text: None)

    with pytest.raises(GateError, match="batch status"):
        again()
    asked = answer_files(folder, oracle)
    found = again()
    assert (found.labelled, found.pending, found.llm_tags) == (5, 0, ("maturity", "redemption"))
    assert (folder.collect().open, folder.collect().requests) == (0, asked)
    assert (again().llm_requests, folder.collect().requests) == (0, asked)
    rows = tables.read("labels", SECOND).where("tag_id = 'maturity'").collect()
    assert {row["labeller"] for row in rows} == {"llm"} and len(rows) == 5


def test_what_two_nights_want_is_one_request_and_what_nobody_wants_any_more_is_not_run(
    tables: Tables, night: Settings
) -> None:
    there = at(night, NOBODY)
    offline = there.model_copy(update={"llm": there.llm.model_copy(update={"mode": "files"})})
    second, third = offline_folder(offline, SECOND), offline_folder(offline, THIRD)
    with pytest.raises(GateError, match="batch status"):
        label(tables, offline, SECOND, say=lambda text: None)
    Path(night.label.taxonomy).write_text(TAXONOMY.replace("客户想卖出或转走。", "客户要把钱拿走。"), "utf-8")
    for ds in (SECOND, THIRD):
        prepare(tables, night, ds)
        with pytest.raises(GateError, match="batch status"):
            label(tables, offline, ds, say=lambda text: None)
    assert second.collect().open == NEEDED, "as the tag is defined now"
    assert third.collect().open == NEEDED + 2, "gold and the five that wait, and its own two"
    written = [line for path in third.folder.glob("requests/*.jsonl") for line in path.read_text("utf-8").splitlines()]
    assert len(written) == 2
    assert answer_files(third, oracle) == NEEDED + 2
    assert second.collect().open == 0, "answered once for both nights"
    for ds, own in ((SECOND, 5), (THIRD, 2)):
        found = label(tables, offline, ds, say=lambda text: None)
        assert (found.labelled, found.pending) == (own, 0)
    assert (second.collect().open, third.collect().open) == (0, 0)
