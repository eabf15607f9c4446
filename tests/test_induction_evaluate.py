"""`evaluate-induction`: what it writes, with gold, without, and with an LLM."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.errors import InputError, ServerError
from jobs.evaluation.evaluate_induction import evaluate_induction
from jobs.evaluation.recovery import recovery
from jobs.induction.induce import Induced, induce
from jobs.settings import Settings
from jobs.taxonomy import load_taxonomy
from tests.fake_llm import FakeLlm, Reply

TEXTS = ["I want to reset my password", "please block my stolen card"]


def write(path: Path, gold: bool, swap: bool = False) -> Path:
    with path.open("w", encoding="utf-8") as out:
        for i in range(24):
            turns = [
                {"speaker": "agent", "text": "How can I help?"},
                {"speaker": "customer", "text": f"{TEXTS[i % 2]} number {'abcdefgh'[i % 8]}"},
            ]
            line: dict[str, Any] = {"conversation_id": f"c{i}", "turns": turns}
            if gold:
                line["turn_labels"] = [["greeting"], [["p", "b"][(i + swap) % 2]] if i < 20 else []]
            out.write(json.dumps(line) + "\n")
    return path


def test_with_gold(tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    result = evaluate_induction(write(tmp_path / "in.jsonl", gold=True), out, use_llm=False, settings=settings)
    assert result == json.loads((out / "induction.json").read_text())
    assert {"accuracy", "precision", "recall", "f1", "nmi", "ari", "tags_found", "tags_gold", "seconds"} <= set(result)
    assert (result["turns"], result["tags_gold"]) == (20, 2)  # agent turns and turns without gold are not scored
    lines = [json.loads(line) for line in (out / "assignments.jsonl").read_text().splitlines()]
    assert [(entry["conversation_id"], entry["turn"]) for entry in lines] == [(f"c{i}", 1) for i in range(24)]
    assert {entry["tag"] for entry in lines} <= set(load_taxonomy(out / "taxonomy.yaml").tag_ids)


def test_the_yardstick_is_measured_alike_and_never_asks_the_llm(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", gold=True)
    result = evaluate_induction(source, tmp_path / "out", use_llm=True, settings=settings, yardstick="kmeans")
    assert result["turns"] == 20 and 0 < result["accuracy"] <= 1  # it cannot choose fewer than five groups
    assert "named_by_llm" not in result
    tags = set(load_taxonomy(tmp_path / "out" / "taxonomy.yaml").tag_ids)
    assert len(tags) == result["tags_proposed"] >= 2


def test_without_gold_the_last_two_alone(tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    evaluate_induction(write(tmp_path / "in.jsonl", gold=True), out, use_llm=False, settings=settings)
    first = (out / "assignments.jsonl").read_bytes()
    evaluate_induction(write(tmp_path / "in.jsonl", gold=False), out, use_llm=False, settings=settings)
    assert sorted(path.name for path in out.iterdir()) == ["assignments.jsonl", "taxonomy.yaml"]
    assert (out / "assignments.jsonl").read_bytes() == first  # gold changes nothing, and the same seed the same groups


def test_induction_gets_conversations_without_gold(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spy(conversations: Any, **rest: Any) -> Induced:
        assert all(c.labels is None and c.turn_labels is None for c in conversations)
        assert not (tmp_path / "out" / "induction.json").exists()
        return induce(conversations, **rest)

    monkeypatch.setattr("jobs.evaluation.evaluate_induction.induce", spy)
    evaluate_induction(write(tmp_path / "in.jsonl", gold=True), tmp_path / "out", use_llm=False, settings=settings)
    assert (tmp_path / "out" / "induction.json").is_file()


def test_the_llm_wanted_and_absent_is_an_error_that_says_what_to_do(tmp_path: Path, settings: Settings) -> None:
    llm = settings.llm.model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
    settings = settings.model_copy(update={"llm": llm})
    with pytest.raises(ServerError, match="--no-llm"):
        evaluate_induction(write(tmp_path / "in.jsonl", gold=True), tmp_path / "out", use_llm=True, settings=settings)


def test_held_out_conversations_make_no_tag_and_try_the_definitions(tmp_path: Path, settings: Settings) -> None:
    source, held = write(tmp_path / "in.jsonl", gold=True), tmp_path / "held.jsonl"
    line = {"conversation_id": "new", "turns": [{"speaker": "customer", "text": "please block my stolen card"}]}
    held.write_text(json.dumps(line) + "\n", encoding="utf-8")
    result = evaluate_induction(source, tmp_path / "out", use_llm=False, settings=settings, held_out=held)
    assert result["held_out_turns"] == 1 and result["turns"] == 20
    page = yaml.safe_load((tmp_path / "out" / "critic.yaml").read_text("utf-8"))
    assert page["held_out"] == {"conversations": 1, "turns": 1} and page["agreed"] == result["held_out_agreed"]
    assert "new" not in (tmp_path / "out" / "assignments.jsonl").read_text("utf-8")


def test_every_question_to_the_llm_is_on_record(tmp_path: Path, settings: Settings) -> None:
    with FakeLlm(Reply("?!"), model="smollm2-135m-instruct") as fake:
        llm = settings.llm.model_copy(update={"base_url": fake.base_url, "retries": 0})
        settings = settings.model_copy(update={"llm": llm})
        out = tmp_path / "out"
        result = evaluate_induction(write(tmp_path / "in.jsonl", gold=True), out, use_llm=True, settings=settings)
    steps = [json.loads(step) for step in (out / "llm_steps.jsonl").read_text("utf-8").splitlines()]
    assert result["named_by_llm"] == 0 and len(fake.requests) == len(steps)
    turns = len((out / "assignments.jsonl").read_text("utf-8").splitlines())
    assert Counter(step["step"] for step in steps) == {"wish": turns, "name": result["tags_proposed"]}
    assert all(step["attempts"][0]["rejected"] for step in steps)


def test_the_same_set_again_asks_nothing_that_counted(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", gold=True)

    def asked(body: dict[str, Any]) -> Reply:
        said = body["messages"][-1]["content"]
        return Reply(said.removesuffix(" ->").splitlines()[-1][:40] if said.endswith("->") else "no name")

    with FakeLlm(asked, model="smollm2-135m-instruct") as fake:
        llm = settings.llm.model_copy(update={"base_url": fake.base_url, "retries": 0})
        settings = settings.model_copy(update={"llm": llm})
        found = [evaluate_induction(source, tmp_path / str(n), use_llm=True, settings=settings) for n in (1, 2)]
        wishes = Counter(body["messages"][-1]["content"].endswith("->") for body in fake.requests)
    first, again = ((tmp_path / str(n) / "assignments.jsonl").read_bytes() for n in (1, 2))
    assert wishes == {True: 24, False: 2 * found[0]["tags_proposed"]}, "names did not count, and are asked again"
    assert first == again


def test_a_folder_that_cannot_be_written_is_said_before_anybody_is_asked(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*rest: Any, **more: Any) -> Induced:
        pytest.fail("induction began")

    monkeypatch.setattr("jobs.evaluation.evaluate_induction.induce", ask)
    source = write(tmp_path / "in.jsonl", gold=True)
    with pytest.raises(InputError, match="cannot be written"):
        evaluate_induction(source, source, use_llm=False, settings=settings)


def test_what_recovery_made_of_an_earlier_run_goes_with_it(tmp_path: Path, settings: Settings) -> None:
    source, out = write(tmp_path / "in.jsonl", gold=True), tmp_path / "out"
    evaluate_induction(source, out, use_llm=False, settings=settings)
    recovery(source, out)
    assert (out / "recovery.json").is_file() and (out / "recovery.md").is_file()
    evaluate_induction(source, out, use_llm=False, settings=settings)
    assert not (out / "recovery.json").exists() and not (out / "recovery.md").exists()
