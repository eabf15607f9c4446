"""What the LLM did not answer usably: kept with reason and answer, asked again when a person says so, exactly once."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.errors import GateError, InputError
from jobs.label import LabelResult, label
from jobs.labelling.commands import letters_table, sample_table
from jobs.labelling.dead_letters import Letter, Letters, list_letters, replay
from jobs.llm.run_batch import offline_folder
from jobs.settings import Settings
from jobs.storage import Tables
from tests.fake_llm import FakeLlm, Reply, reply_json
from tests.small_night import NEEDED, NOBODY, SECOND, THIRD, answer_files, at, oracle, outcomes, prepare, run

pytestmark = pytest.mark.spark


class Stubborn:
    """Answers well, except about conversations with one of these words; what it says then quotes a phone number."""

    def __init__(self, **bad: Reply) -> None:
        self.bad = bad

    def __call__(self, body: dict[str, Any]) -> Reply:
        said = body["messages"][-1]["content"]
        return next((reply for word, reply in self.bad.items() if word in said), oracle(body))


UNKNOWN = reply_json({"tags": [{"tag": "nobody", "turns": [0], "quote": "打 13812345678"}], "cannot_tell": False})


def test_letters_are_kept_and_replayed_exactly(tables: Tables, night: Settings) -> None:
    with FakeLlm(Stubborn(第1次=UNKNOWN, 第2次=Reply("我不知道"))) as fake:
        first = run(tables, night, SECOND, fake.base_url)
        assert (first.llm_requests, first.dead_letters) == (NEEDED + 2, 2), "each bad answer was asked for twice"
        assert "2 dead letters" in str(first)
        rows = {row["conversation_id"]: row for row in tables.read_all("dead_letters").collect()}
        assert {name: (row["reason"], row["attempts"]) for name, row in rows.items()} == {
            "s1": ("unknown_tag", 2),
            "s2": ("not_json", 2),
        }
        assert "13812345678" not in rows["s1"]["reply"] and "[电话]" in rows["s1"]["reply"]
        assert rows["s2"]["reply"] == "我不知道" and len(rows["s2"]["answer_keys"]) == 2
        assert (rows["s1"]["first_turn"], rows["s1"]["last_turn"]) == (0, 1)
        found = list_letters(tables, SECOND)
        assert found.counts == {("not_json", "open"): 1, ("unknown_tag", "open"): 1}
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0, "a retry asks nobody again by itself"
        settled = sorted(
            r["answer_key"] for r in tables.read_all("llm_answers").where("verdict <> 'unusable'").collect()
        )

    with FakeLlm(oracle) as fake:
        assert replay(tables, SECOND, reason="unknown_tag").requests == 1
        again = replay(tables, SECOND, conversation="s1")
        assert (again.requests, again.waiting) == (0, 1), "wished for once is enough"
        assert list_letters(tables, SECOND).counts == {("not_json", "open"): 1, ("unknown_tag", "replayed"): 1}
        result = run(tables, night, SECOND, fake.base_url)
        assert (result.llm_requests, len(fake.requests), result.labelled, result.pending) == (1, 1, 4, 1)
        assert "第1次" in fake.requests[0]["messages"][-1]["content"]
        assert outcomes(tables, SECOND)["s1"] == ("labelled", 1)
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        assert list_letters(tables, SECOND, "unknown_tag").counts == {("unknown_tag", "answered"): 1}
        with pytest.raises(InputError, match="dead-letters list"):
            replay(tables, SECOND, reason="unknown_tag")
        usable = [r["answer_key"] for r in tables.read_all("llm_answers").where("verdict <> 'unusable'").collect()]
        assert len(usable) == len(set(usable)) == len(settled) + 2 and set(settled) < set(usable)


def test_a_replay_that_fails_again_is_one_more_letter_and_asks_no_third_time(tables: Tables, night: Settings) -> None:
    with FakeLlm(Stubborn(第1次=Reply("？"))) as fake:
        run(tables, night, SECOND, fake.base_url)
        paid = len(fake.requests)
        assert replay(tables, SECOND).requests == 1
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 2
        assert run(tables, night, SECOND, fake.base_url).llm_requests == 0
        assert len(fake.requests) == paid + 2
        assert list_letters(tables, SECOND).counts == {("not_json", "open"): 1}


def test_a_dead_conversation_comes_back_with_its_replay(tables: Tables, night: Settings) -> None:
    with FakeLlm(Stubborn(第1次=Reply("？"))) as fake:
        run(tables, night, SECOND, fake.base_url)
        bad = tables.read("llm_answers", SECOND).where("verdict = 'unusable'")
        for earlier in ("2026-11-16", "2026-11-17"):
            tables.append("llm_answers", bad, earlier)
        assert run(tables, night, SECOND, fake.base_url).dead == 1, "failed on three nights"
        assert replay(tables, SECOND).requests == 1
    prepare(tables, night, THIRD)
    with FakeLlm(oracle) as fake:
        result = run(tables, night, THIRD, fake.base_url)
        assert (result.conversations, len(fake.requests)) == (3, 3), "its own two, and the one replayed"
        assert outcomes(tables, THIRD)["s1"] == ("labelled", 2)
        assert run(tables, night, THIRD, fake.base_url).conversations == 3, "the same night, the same conversations"
        assert len(fake.requests) == 3


def test_without_a_server_a_replay_is_a_new_request_in_a_file(tables: Tables, night: Settings) -> None:
    there = at(night, NOBODY)
    offline = there.model_copy(update={"llm": there.llm.model_copy(update={"mode": "files"})})
    folder = offline_folder(offline, SECOND)
    stubborn = Stubborn(第1次=Reply("？"))

    def again() -> LabelResult:
        return label(tables, offline, SECOND, say=lambda text: None)

    with pytest.raises(GateError, match="batch status"):
        again()
    assert answer_files(folder, stubborn) == NEEDED
    again()
    assert answer_files(folder, stubborn) == 1, "the bad answer, asked for with another seed"
    assert (again().dead_letters, folder.collect().open) == (1, 0)
    before = folder.collect().requests
    assert (again().llm_requests, folder.collect().requests) == (0, before)

    assert replay(tables, SECOND).requests == 1
    again()
    assert (folder.collect().open, folder.collect().requests) == (1, before + 1), "one request, and a new one"
    assert answer_files(folder, oracle) == 1
    found = again()
    assert (found.llm_requests, found.labelled, found.pending) == (1, 5, 0)
    assert (again().llm_requests, folder.collect().requests) == (0, before + 1)
    assert list_letters(tables, SECOND).counts == {("not_json", "answered"): 1}


def test_the_command_line_names_its_commands() -> None:
    from jobs.cli import app

    shown = CliRunner().invoke(app, ["dead-letters", "--help"]).output
    assert "list" in shown and "replay" in shown


def test_replies_are_shown_when_asked_for_and_never_read_as_markup() -> None:
    letter = Letter("c1", SECOND, 4, 9, "m", "not_json", "[bold]说了什么", 4, "open")
    found = Letters({("not_json", "open"): 1}, (letter,))
    for replies in (False, True):
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(letters_table(found, SECOND), sample_table(found, replies=replies))
        shown = console.export_text()
        assert "not_json" in shown and "4-9" in shown and ("[bold]说了什么" in shown) == replies
