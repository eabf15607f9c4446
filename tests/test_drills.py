"""Killed for good (signal 9), in the middle of a wave: the next try asks exactly what is missing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from jobs.settings import PROJECT, Settings
from jobs.storage import Tables
from tests.fake_llm import FakeLlm, Reply
from tests.small_night import NEEDED, SECOND, WAVE, at, in_waves, oracle, run

pytestmark = pytest.mark.spark


class Stalls:
    """Answers the first wave, then keeps everybody waiting."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, body: dict[str, Any]) -> Reply:
        self.asked += 1
        answer = oracle(body)
        return answer if self.asked <= WAVE else Reply(answer.content, delay=300.0)


def start(settings: Settings, url: str, folder: Path) -> subprocess.Popen[str]:
    """`python -m jobs label` as a scheduler runs it, in a process group of its own."""
    there = at(settings, url)
    config = folder / "dongcha.yaml"
    config.write_text(yaml.safe_dump(there.model_dump(mode="json", exclude={"privacy", "publish"})), "utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", "label", "--ds", SECOND],
        cwd=PROJECT,
        env=os.environ | {"DONGCHA_CONFIG": str(config)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < until, "it did not come so far"
        time.sleep(0.1)


def kill_driver(process: subprocess.Popen[str], fake: FakeLlm) -> None:
    """The driver, its JVM and Spark's workers at once, as when a container is taken away."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def kill_workers(process: subprocess.Popen[str], fake: FakeLlm) -> None:
    """Spark's Python workers alone, as the system does when memory runs out."""
    family = psutil.Process(process.pid).children(recursive=True)
    killed = 0
    for child in family:
        # A worker that has just ended by itself (a zombie, or gone) is none to kill and must not end the drill.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "pyspark.daemon" in " ".join(child.cmdline()) and not child.children():
                child.kill()
                killed += 1
    assert killed


def kill_server(process: subprocess.Popen[str], fake: FakeLlm) -> None:
    """The LLM server, with answers under way."""
    fake.__exit__(None, None, None)


@pytest.mark.parametrize("kill", [kill_driver, kill_workers, kill_server])
def test_killed_in_a_wave_the_next_try_asks_what_is_missing(
    tables: Tables, night: Settings, tmp_path: Path, kill: Callable[[subprocess.Popen[str], FakeLlm], None]
) -> None:
    night, stalls = in_waves(night), Stalls()
    fake = FakeLlm(stalls)
    fake.__enter__()
    process = start(night, fake.base_url, tmp_path)
    try:
        wait_for(lambda: len(fake.requests) > WAVE, process)
        kill(process, fake)
        process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            kill_driver(process, fake)
        if kill is not kill_server:
            fake.__exit__(None, None, None)
    assert process.returncode != 0
    before = len(fake.requests)
    assert WAVE < before <= 3 * WAVE, "a wave paid for and committed, one under way; a retry each at most"

    with FakeLlm(oracle) as again:
        result = run(tables, night, SECOND, again.base_url)
        assert (result.llm_requests, len(again.requests)) == (NEEDED - WAVE, NEEDED - WAVE)
        assert (result.labelled, result.pending, result.dead) == (5, 0, 0)
        killed = sorted(map(str, tables.read("labels", SECOND).collect()))
        assert run(tables, night, SECOND, again.base_url).llm_requests == 0
    assert killed == sorted(map(str, tables.read("labels", SECOND).collect()))
    assert {(r["tag_id"], r["labeller"]) for r in tables.read("labels", SECOND).collect()} == {("maturity", "llm")}
