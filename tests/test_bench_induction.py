"""The development sets of induction, the table over them, and the judge that is made of gold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.bench.cli import app
from jobs.bench.induction import bench_induction, drawn_sets, induction_page
from jobs.bench.induction_sets import InductionSet, draw_set, load_sets
from jobs.bench.simulated_judge import SimulatedJudge, tags_by_text
from jobs.conversation import read_conversations
from jobs.errors import InputError
from jobs.induction.asking import Question, prompt_template
from jobs.induction.judge import parse_verdict
from jobs.llm.profiles import PROFILES, read_profile
from jobs.settings import LlmSettings, Settings

PROFILE = read_profile(PROFILES / "cpu-smollm2.yaml")


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


def said(name: str, text: str, *labels: str, **more: Any) -> dict[str, Any]:
    turns = [{"speaker": "customer", "text": text, **more}]
    return {"conversation_id": name, "turns": turns, "labels": list(labels)}


def drawn(rule: InductionSet, tmp_path: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    write(tmp_path / "data" / rule.file, records)
    path = draw_set("x", rule, tmp_path / "data", tmp_path / "out")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_sets_of_the_project_are_well_formed() -> None:
    assert {"dstc11_insurance", "banking77_77", "crosswoz"} <= set(load_sets())


def test_the_same_rule_draws_the_same_set_and_sizes_are_kept(tmp_path: Path) -> None:
    records = [said(f"{tag}{i}", f"{tag} {i}", tag) for tag in "abcd" for i in range(40)]
    rule = InductionSet(file="f.jsonl", gold="turns", tags=3, sizes=(5, 20), seed=3)
    first, again = drawn(rule, tmp_path, records), drawn(rule, tmp_path, records)
    assert first == again
    counts = [sum(record["turn_labels"] == [[tag]] for record in first) for tag in "abcd"]
    assert sorted(counts)[0] == 0 and all(5 <= count <= 20 for count in sorted(counts)[1:])
    assert len(drawn(rule.model_copy(update={"sizes": None, "turns": 50}), tmp_path, records)) == 50


def test_whatever_can_be_read_can_be_drawn(tmp_path: Path) -> None:
    texts = ["one\u2028line", "half of \ud83d", "bye"]
    lines = [json.dumps(said(str(i), t, "a"), ensure_ascii=i == 1) + "\n\n" for i, t in enumerate(texts)]
    (tmp_path / "f.jsonl").write_text("".join(lines), "utf-8-sig")
    path = draw_set("x", InductionSet(file="f.jsonl", gold="turns"), tmp_path, tmp_path / "out")
    assert sorted(c.customer_text for c in read_conversations(path)) == sorted(texts)


@pytest.mark.parametrize(
    ("gold", "record", "tag"),
    [
        ("combination", said("1", "a new pin", "pin", "new"), "new+pin"),
        ("request", said("1", "地址呢", acts=[["Request", "酒店", "地址"], ["Inform", "酒店", "名称"]]), "酒店-地址"),
        ("intent", said("1", "pay", acts=["INFORM_INTENT"], active_intents=["Pay_1.Send"]), "Send"),
    ],
)
def test_gold_is_read_as_the_source_gives_it(gold: Any, record: dict[str, Any], tag: str, tmp_path: Path) -> None:
    found = drawn(InductionSet(file="f.jsonl", gold=gold), tmp_path, [record])
    assert [entry["turn_labels"] for entry in found] == [[[tag]]]


@pytest.mark.parametrize(
    ("gold", "record"),
    [
        ("turns", said("1", "hello")),
        ("request", said("1", "两个", acts=[["Request", "酒店", "地址"], ["Request", "酒店", "电话"]])),
        ("intent", said("1", "yes", acts=["AFFIRM"], active_intents=["Pay_1.Send"])),
    ],
)
def test_turns_without_a_single_tag_are_left_out(gold: Any, record: dict[str, Any], tmp_path: Path) -> None:
    assert drawn(InductionSet(file="f.jsonl", gold=gold), tmp_path, [record]) == []


@pytest.mark.parametrize("gold", ["turns", "combination", "request", "intent"])
def test_gold_that_nobody_gave_is_no_error_and_of_a_long_chat_no_turn_has_it(gold: Any, tmp_path: Path) -> None:
    """As `evaluate-induction` scores it: which of its turns bears the label of a chat nobody knows."""
    twice = said("1", "block my card", "card")
    twice["turns"] = twice["turns"] * 2
    bare = {name: value for name, value in said("2", "hello").items() if name != "labels"}
    null = said("3", "hello", "card") | {"labels": None, "turn_labels": None}
    quiet = {"conversation_id": "4", "turns": [{"text": "hello"}]}
    assert drawn(InductionSet(file="f.jsonl", gold=gold), tmp_path, [twice, bare, null, quiet]) == []


def test_a_tag_that_is_not_there_is_named(tmp_path: Path) -> None:
    rule = InductionSet(file="f.jsonl", gold="turns", tags=["gone"])
    with pytest.raises(InputError, match="no turns with the tags gone"):
        drawn(rule, tmp_path, [said("1", "a", "b")])


def judge(error: float, gold: dict[str, str]) -> SimulatedJudge:
    return SimulatedJudge(PROFILE, LlmSettings(), gold=gold, error=error)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_simulated_judge_goes_by_gold_and_errs_as_often_as_it_is_told(language: str) -> None:
    gold = {f"card {i}": "card" for i in range(40)} | {f"loan {i}": "loan" for i in range(40)}
    template = prompt_template("induce_pair", language)

    def question(first: str, second: str) -> Question[bool]:
        sides = [{"name": side, "definition": "d", "examples": [side]} for side in (first, second)]
        return Question({}, template.render(first=sides[0], second=sides[1]), parse_verdict)

    same = [question(f"card {i}", f"card {j}") for i in range(20) for j in range(20, 40)]
    other = [question(f"card {i}", f"loan {i}") for i in range(40)]
    right = judge(0, gold)
    assert all(answer.value is True for answer in right.ask("pair", same, {}, 9))
    assert all(answer.value is False for answer in right.ask("pair", other, {}, 9))
    wrong = [answer.value for answer in judge(0.2, gold).ask("pair", same, {}, 9)].count(False)
    assert 0.12 < wrong / len(same) < 0.28
    with pytest.raises(InputError, match="cannot do the step"):
        right.ask("critic", same, {}, 9)


def test_the_table_has_every_way_and_its_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "sets.yaml"
    page.write_text("small: {file: f.jsonl, gold: turns}\n", "utf-8")
    monkeypatch.setattr("jobs.bench.induction.load_sets", lambda: load_sets(page))
    nouns = {"card": "block my card", "loan": "repay the loan early", "pin": "forgot the pin number"}
    records = [said(f"{tag}{i}", f"{text} {'abcdefgh'[i]}", tag) for tag, text in nouns.items() for i in range(8)]
    write(tmp_path / "data" / "f.jsonl", records)
    settings = Settings(var=tmp_path / "var")
    result = bench_induction(settings, drawn_sets(tmp_path / "data", [], tmp_path / "sets"), [0.0], lambda _: None)
    assert set(result["average"]) == {"kmeans", "consensus", "recipe", "judge 0% wrong"}
    assert result["sets"]["small"]["recipe"]["turns"] == 24
    lines = induction_page(result).splitlines()
    assert lines[2].startswith("| small |") and lines[-1].startswith("| average |")
    assert {line.count("|") for line in lines} == {13}
    with pytest.raises(InputError, match="there are: small"):
        drawn_sets(tmp_path / "data", ["other"], tmp_path / "sets")
    write(tmp_path / "bare.jsonl", [said(f"{tag}{i}", f"{text} {i}") for tag, text in nouns.items() for i in range(8)])
    monkeypatch.setattr("jobs.bench.induction.evaluate_induction", lambda *_, **__: pytest.fail("induced"))
    small = tmp_path / "sets" / "small.jsonl"
    with pytest.raises(InputError, match="no customer turn has gold"):
        bench_induction(settings, [small, tmp_path / "bare.jsonl"], [], lambda _: None)
    write(tmp_path / "other" / "small.jsonl", records)
    with pytest.raises(InputError, match="two files are called small"):
        bench_induction(settings, [small, tmp_path / "other" / "small.jsonl"], [], lambda _: None)


def test_own_files_have_no_encoder_of_the_other_half(tmp_path: Path) -> None:
    """They would be without the column that the average is made of."""
    said = CliRunner().invoke(app, ["induction", "--data", str(tmp_path), "--learn-encoder", "--input", "own.jsonl"])
    assert isinstance(said.exception, InputError) and "--learn-encoder" in str(said.exception)


def test_a_text_keeps_its_first_tag(tmp_path: Path) -> None:
    write(tmp_path / "f.jsonl", [said("1", "hello there", "a"), said("2", "hello there", "b")])
    assert tags_by_text(read_conversations(tmp_path / "f.jsonl")) == {"hello there": "a"}
