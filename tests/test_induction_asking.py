"""Questions of induction are paid once: answers that counted are kept, through kill -9 as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputError
from jobs.induction.asking import Asker, Question
from jobs.llm.answers import BadAnswerError
from jobs.llm.kept import KeptAnswers
from jobs.llm.profiles import PROFILES, read_profile
from jobs.settings import PROJECT, LlmSettings
from tests.fake_llm import FakeLlm, Reply, reply_json

LLM = LlmSettings(retries=0, backoff_seconds=0.01, timeout_seconds=30, in_flight=4)
SCHEMA: dict[str, Any] = {"type": "object"}


def number(text: str) -> int:
    value = json.loads(text).get("n")
    if not isinstance(value, int):
        raise BadAnswerError("schema", "no number")
    return value


def ask(url: str, kept: Path | None, count: int, parse: Any = number, **profile: Any) -> tuple[list[Any], list[Any]]:
    serving = read_profile(PROFILES / "endpoint.yaml").model_copy(update={"base_url": url, **profile})
    asker = Asker(serving, LLM, KeptAnswers(kept) if kept else None)
    questions = [Question({"n": n}, f"number {n}", parse) for n in range(count)]
    return [answer.value for answer in asker.ask("count", questions, SCHEMA, 16)], asker.steps


def echo(body: dict[str, Any]) -> Reply:
    return reply_json({"n": int(body["messages"][0]["content"].split()[1])})


def test_what_counted_is_not_asked_again_and_the_record_says_so(tmp_path: Path) -> None:
    with FakeLlm(echo) as fake:
        first, steps = ask(fake.base_url, tmp_path / "kept.sqlite", 5)
        again, later = ask(fake.base_url, tmp_path / "kept.sqlite", 7)
    assert first == list(range(5)) and again == list(range(7)) and len(fake.requests) == 7
    assert not any("kept" in step for step in steps)
    assert [step.get("kept", False) for step in later] == [True] * 5 + [False] * 2
    assert [step["attempts"] for step in later[:5]] == [step["attempts"] for step in steps]
    assert b"number 3" not in (tmp_path / "kept.sqlite").read_bytes(), "what people said is not in the file"


def test_another_model_a_bad_answer_and_a_stricter_check_are_asked_anew(tmp_path: Path) -> None:
    def odd(text: str) -> int:
        if (value := number(text)) % 2 == 0:
            raise BadAnswerError("schema", "even")
        return value

    kept = tmp_path / "kept.sqlite"
    with FakeLlm(echo) as fake:
        assert ask(fake.base_url, kept, 4, odd)[0] == [None, 1, None, 3]
        assert ask(fake.base_url, kept, 4)[0] == [0, 1, 2, 3] and len(fake.requests) == 4 + 2
        assert ask(fake.base_url, kept, 4, odd)[0] == [None, 1, None, 3] and len(fake.requests) == 6 + 2
        ask(fake.base_url, kept, 4, served_model_name="another")
        assert len(fake.requests) == 8 + 4


def test_a_file_that_is_no_database_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "kept.sqlite").write_text("no database, but long enough to be looked at as one " * 20)
    with FakeLlm(echo) as fake, pytest.raises(InputError, match="delete the file"):
        ask(fake.base_url, tmp_path / "kept.sqlite", 1)


def test_a_killed_run_pays_for_no_answer_twice(tmp_path: Path) -> None:
    kept, count = tmp_path / "kept.sqlite", 60

    def slow(body: dict[str, Any]) -> Reply:
        return Reply(echo(body).content, delay=0.05)

    with FakeLlm(slow) as fake:
        ask_all = f"ask({fake.base_url!r}, Path({str(kept)!r}), {count})"
        code = f"from pathlib import Path\nfrom tests.test_induction_asking import ask\n{ask_all}"
        driver = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
        end = time.monotonic() + 60
        while len(fake.requests) < 20 and driver.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        before = len(fake.requests)
        values, _ = ask(fake.base_url, kept, count)
        asked = Counter(body["messages"][0]["content"] for body in fake.requests)
    assert values == list(range(count)) and 20 <= before < count
    twice = sum(times - 1 for times in asked.values())
    assert twice <= 4, "only what was under way when the process died is asked again"
    assert len(fake.requests) == count + twice
