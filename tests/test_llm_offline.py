"""Requests and answers as files: what is written, what counts, what is asked again."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ServerError
from jobs.llm.answers import decode_json
from jobs.llm.exchange import FailureKind, LlmResult, LlmUsage
from jobs.llm.offline import OfflineClient, OfflineFolder
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.llm.run_batch import run_batch
from jobs.settings import LlmSettings, Settings

DS = "2026-11-20"
PROFILE = read_profile(PROFILES / "cpu-smollm2.yaml")
SCHEMA = {"type": "object"}
Line = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> OfflineFolder:
    return OfflineFolder(tmp_path / "llm" / "offline", DS)


@pytest.fixture
def later(folder: OfflineFolder) -> OfflineFolder:
    """The night after."""
    return OfflineFolder(folder.root, "2026-11-21")


def ask(
    folder: OfflineFolder, *said: str, retries: int = 1, profile: ServingProfile = PROFILE
) -> tuple[list[LlmResult[Any]], LlmUsage]:
    """What a pass of the labellers does: collect, then ask everything."""
    folder.collect()

    async def run() -> tuple[list[LlmResult[Any]], LlmUsage]:
        async with OfflineClient(profile, folder, retries) as client:
            messages = ([{"role": "user", "content": text}] for text in said)
            found = [await client.ask(message, SCHEMA, "labels", decode_json) for message in messages]
            return found, client.usage

    return asyncio.run(run())


def texts_of(lines: list[Line]) -> list[str]:
    return sorted(line["body"]["messages"][0]["content"] for line in lines)


def requests(folder: OfflineFolder) -> list[Line]:
    folder.collect()
    return [json.loads(line) for part in folder.open_requests(1_000) for line in part]


def completion(content: str, model: str = PROFILE.served_model_name) -> Line:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}


def answer(request: Line, content: str = "{}", status: int = 200, **changed: Any) -> Line:
    body = completion(content) if status == 200 else {"error": {"message": "no"}}
    line = {"id": "b", "custom_id": request["custom_id"], "response": {"status_code": status, "body": body}}
    return line | {"error": None} | changed


def bring(folder: OfflineFolder, name: str, *lines: Line | str) -> None:
    place = folder.folder / "answers"
    place.mkdir(parents=True, exist_ok=True)
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (place / f"{name}.jsonl").write_text("".join(f"{text}\n" for text in texts), "utf-8")


def test_a_request_waits_in_a_file_until_it_is_answered(folder: OfflineFolder) -> None:
    (first, second), usage = ask(folder, "月底到期", "half a pair: \ud83d")
    assert first.failure is not None and first.failure.kind == FailureKind.DEFERRED
    assert (second.value, usage.requests) == (None, 0)
    assert (folder.collect().requests, folder.collect().open) == (2, 2)
    written = requests(folder)
    assert [r["method"] + r["url"] for r in written] == ["POST/v1/chat/completions"] * 2
    body = next(r["body"] for r in written if r["body"]["messages"][0]["content"] == "月底到期")
    assert (body["model"], body["temperature"], body["logprobs"]) == ("smollm2-135m-instruct", 0.0, True)
    assert body["structured_outputs"]["json"] == SCHEMA and "extra_body" not in body
    bring(folder, "1", *(answer(r, '{"n": 1}') for r in written))
    (first, second), usage = ask(folder, "月底到期", "half a pair: \ud83d")
    assert (first.value, first.failure, second.value) == ({"n": 1}, None, {"n": 1})
    assert (usage.requests, usage.answers, usage.prompt_tokens, usage.output_tokens) == (2, 2, 200, 14)
    assert folder.collect().open == 0


def test_nothing_is_written_twice(folder: OfflineFolder) -> None:
    ask(folder, "a", "b", "a")
    ask(folder, "b", "c")
    assert texts_of(requests(folder)) == ["a", "b", "c"]
    assert len(list((folder.folder / "requests").glob("*.jsonl"))) == 2
    assert [len(part) for part in folder.open_requests(2)] == [2, 1]


def test_a_bad_answer_is_asked_again_with_another_seed_and_then_given_up(folder: OfflineFolder) -> None:
    ask(folder, "a")
    (before,) = requests(folder)
    bring(folder, "1", answer(before, "not json"))
    (found,), _ = ask(folder, "a")
    assert found.failure is not None and found.failure.kind == FailureKind.DEFERRED
    (again,) = requests(folder)
    assert again["custom_id"] != before["custom_id"]
    assert (again["body"]["seed"], again["body"]["temperature"]) == (before["body"]["seed"] + 1, 0.7)
    bring(folder, "2", answer(again, "still not"))
    (found,), usage = ask(folder, "a")
    assert found.failure is not None and found.failure.kind == FailureKind.BAD_ANSWER
    assert (found.attempts, usage.requests, requests(folder)) == (2, 2, [])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda r: "{broken", "not a line of a batch answer"),
        (lambda r: '["a"]', "not a line of a batch answer"),
        (lambda r: answer(r, custom_id="f" * 64), "an answer to something that was not asked"),
        (lambda r: answer(r, status=503), "no answer (HTTP 503); asked again by the next run"),
        (
            lambda r: answer(r, status=429),
            "no answer (HTTP 429: too many requests, or is a quota used up?); asked again by the next run",
        ),
        (
            lambda r: answer(r, status=401),
            "no answer (HTTP 401: is the key there, right and still valid?); asked again by the next run",
        ),
        (lambda r: answer(r, response=None, error="engine died"), "no answer (HTTP 0); asked again by the next run"),
        (
            lambda r: answer(r, response={"status_code": 200, "body": completion("{}", "other")}),
            "an answer by another model",
        ),
    ],
)
def test_lines_that_cannot_be_used_are_counted_and_leave_the_request_open(
    folder: OfflineFolder, make: Callable[[Line], Line | str], reason: str
) -> None:
    ask(folder, "a")
    (asked,) = requests(folder)
    bring(folder, "1", make(asked))
    assert folder.collect().rejected == {reason: 1}
    assert requests(folder) == [asked]
    bring(folder, "2", answer(asked, '{"n": 2}'), answer(asked, '{"n": 3}'))
    assert folder.collect().rejected == {"a second answer to the same request": 1}
    assert ask(folder, "a")[0][0].value == {"n": 2}


def test_a_rejected_request_is_not_asked_again(folder: OfflineFolder) -> None:
    ask(folder, "a")
    bring(folder, "1", answer(requests(folder)[0], status=400))
    (found,), _ = ask(folder, "a")
    assert found.failure is not None and (found.failure.kind, found.failure.detail) == ("rejected", "HTTP 400")
    assert requests(folder) == []


def test_what_two_nights_want_is_written_once_and_answered_for_both(
    folder: OfflineFolder, later: OfflineFolder
) -> None:
    ask(folder, "gold", "waits")
    ask(later, "gold", "waits", "new")
    written = [line for path in folder.root.glob("*/requests/*.jsonl") for line in path.read_text().splitlines()]
    assert texts_of([json.loads(line) for line in written]) == ["gold", "new", "waits"]
    assert texts_of(requests(later)) == ["gold", "new", "waits"], "wherever it was written"
    gold = next(r for r in requests(folder) if texts_of([r]) == ["gold"])
    bring(folder, "1", answer(gold, '{"n": 1}'))
    assert texts_of(requests(later)) == ["new", "waits"]
    assert ask(later, "gold")[0][0].value == {"n": 1}
    bring(later, "1", *(answer(r) for r in requests(later)))
    assert (folder.collect().open, later.collect().open) == (0, 0)
    folder.index.unlink()
    assert (later.collect().requests, later.collect().answered, later.collect().open) == (3, 3, 0), "built anew"


def test_what_nobody_wants_any_more_is_not_open_and_still_counts_when_answered(folder: OfflineFolder) -> None:
    ask(folder, "a", "b")
    old = requests(folder)
    folder.want_nothing()
    ask(folder, "b", "c")
    assert texts_of(requests(folder)) == ["b", "c"]
    bring(folder, "1", *(answer(r) for r in old))
    assert folder.collect().rejected == {}
    folder.want_nothing()
    (again, _), _ = ask(folder, "a", "c")
    assert again.value == {} and texts_of(requests(folder)) == ["c"]


def test_the_count_of_open_requests_is_that_of_the_lines_that_a_run_would_take(
    folder: OfflineFolder, later: OfflineFolder
) -> None:
    """Wanted by this night, known as a request, and not answered: each alone is not enough."""

    def opened(night: OfflineFolder) -> int:
        count = night.collect().open
        assert count == sum(len(part) for part in night.open_requests(2))
        return count

    assert opened(folder) == 0
    ask(folder, "a", "b", "c", "d")
    ask(later, "d", "e")
    assert (opened(folder), opened(later)) == (4, 2), "another night's are not this one's"
    first, second, *_ = requests(folder)
    bring(later, "1", answer(first), answer(second, status=400))
    assert opened(folder) == 2, "answered on whatever night, refusals too"
    folder.want(["lost"], [])
    assert opened(folder) == 2, "what nobody has the line of cannot be run"
    folder.want_nothing()
    assert opened(folder) == 0


def test_a_night_of_before_there_was_one_index_waits_for_what_it_wrote(
    folder: OfflineFolder, later: OfflineFolder
) -> None:
    ask(folder, "a", "b")
    shutil.rmtree(folder.folder / "wanted")
    folder.index.rename(folder.folder / "index.sqlite")
    shutil.copytree(folder.folder, later.folder)
    assert texts_of(requests(later)) == ["a", "b"]
    bring(later, "1", *(answer(r) for r in requests(later)))
    assert (folder.collect().open, later.collect().open) == (0, 0)


def test_an_answer_bears_the_model_that_was_asked_whatever_is_served_now(folder: OfflineFolder) -> None:
    ask(folder, "a", profile=PROFILE.model_copy(update={"served_model_name": "another"}))
    (asked,) = requests(folder)
    bring(folder, "1", answer(asked))
    assert folder.collect().rejected == {"an answer by another model": 1}
    bring(folder, "2", answer(asked, response={"status_code": 200, "body": completion("{}", "another")}))
    assert folder.collect().open == 0


def test_a_file_that_grows_is_read_again(folder: OfflineFolder) -> None:
    ask(folder, "a", "b")
    first, second = requests(folder)
    bring(folder, "1", answer(first), json.dumps(answer(second))[:40])
    found = folder.collect()
    assert (found.answered, sum(found.rejected.values())) == (1, 1)
    bring(folder, "1", answer(first), answer(second))
    assert folder.collect().answered == 2


RUNNER = """
import json, sys
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("loading", arguments["--model"], flush=True)
lines = [json.loads(line) for line in open(arguments["-i"])]
if any("poison" in json.dumps(line) for line in lines):
    sys.exit("EngineDeadError")
with open(arguments["-o"], "w") as out:
    for line in lines:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "choices": [choice]}
        body["model"] = arguments["--served-model-name"]
        row = {"id": "b", "custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}
        print(json.dumps(row), file=out)
"""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, OfflineFolder]:
    """Settings whose `vllm run-batch` is a stand-in that answers everything but poison."""
    (tmp_path / "vllm").write_text(f"#!/usr/bin/env python3\n{RUNNER}")
    (tmp_path / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    profile = {"description": "x", "model": "m", "served_model_name": "smollm2-135m-instruct"}
    (tmp_path / "stand-in.yaml").write_text(json.dumps(profile | {"context_length": 2048, "max_output_tokens": 64}))
    monkeypatch.setattr("jobs.llm.profiles.PROFILES", tmp_path)
    settings = Settings(var=tmp_path, llm=LlmSettings(profile="stand-in", base_url="http://127.0.0.1:9/v1"))
    return settings, OfflineFolder(tmp_path / "llm" / "offline", DS)


def test_a_run_that_fails_keeps_what_was_answered_before(runner: tuple[Settings, OfflineFolder]) -> None:
    settings, folder = runner
    ask(folder, *(str(i) for i in range(5)))
    said: list[str] = []
    assert run_batch(settings, DS, most=2, say=said.append).open == 0
    assert [len(p.read_text().splitlines()) for p in sorted((folder.folder / "answers").iterdir())] == [2, 2, 1]
    assert f"0 open for {DS}" in said[-1] and "5 requests of all nights, 5 answered" in said[-1]
    ask(folder, "6", "poison", "7")
    with pytest.raises(ServerError, match="EngineDeadError"):
        run_batch(settings, DS, most=1, say=said.append)
    assert folder.collect().answered < 8
    assert {r["body"]["messages"][0]["content"] for r in requests(folder)} >= {"poison"}


def test_input_files_for_another_machine(runner: tuple[Settings, OfflineFolder]) -> None:
    settings, folder = runner
    ask(folder, "a", "b", "c")
    said: list[str] = []
    run_batch(settings, DS, most=2, say=said.append, only_files=True)
    inputs = sorted((folder.folder / "runs").glob("*.in.jsonl"))
    assert [len(path.read_text().splitlines()) for path in inputs] == [2, 1]
    assert all(f"run-batch -i {path} -o" in said[number + 1] for number, path in enumerate(inputs))
    assert not list((folder.folder / "answers").iterdir())


def test_what_another_machine_was_given_it_is_not_given_again(
    runner: tuple[Settings, OfflineFolder], later: OfflineFolder
) -> None:
    settings, folder = runner
    said: list[str] = []

    def give(night: OfflineFolder) -> dict[str, list[Line]]:
        """The input files that are new."""
        before = set(folder.root.glob("*/runs/*.in.jsonl"))
        said.clear()
        run_batch(settings, night.ds, most=9, say=said.append, only_files=True)
        new = set(folder.root.glob("*/runs/*.in.jsonl")) - before
        return {path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in new}

    ask(folder, "a", "b")
    ((name, first),) = give(folder).items()
    assert texts_of(first) == ["a", "b"]
    ask(later, "a", "b", "c")
    ((_, second),) = give(later).items()
    assert texts_of(second) == ["c"] and any(str(folder.folder / "runs" / name) in line for line in said)
    assert give(later) == give(folder) == {}
    bring(folder, "00001", answer(first[0]), answer(first[1], status=503))
    assert texts_of(next(iter(give(folder).values()))) == texts_of(first[1:]), "it came back without an answer"
    (later.folder / "runs" / "00001.in.jsonl").unlink()
    assert [texts_of(lines) for lines in give(later).values()] == [["c"]], "its answers will not come"


def test_what_failed_here_was_not_given_to_another_machine(runner: tuple[Settings, OfflineFolder]) -> None:
    settings, folder = runner
    ask(folder, "poison", "a", "b")
    with pytest.raises(ServerError, match="EngineDeadError"):
        run_batch(settings, DS, most=9, say=lambda text: None)
    run_batch(settings, DS, most=9, say=lambda text: None, only_files=True)
    inputs = (folder.folder / "runs").glob("*.in.jsonl")
    assert [len(path.read_text().splitlines()) for path in inputs] == [3, 3]
