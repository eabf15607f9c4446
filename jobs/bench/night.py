"""Benchmark: a generated night through ingest, student, score and profile, each stage a process of its own.

The student labels alone (`label.llm: false`): what is timed is Dongcha and Spark, not a model server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from jobs.bench.raw_chats import write_chats
from jobs.errors import DongchaError
from jobs.settings import PROJECT, Settings

STAGES = ("ingest", "gold", "train", "label", "score", "gate", "profile", "sample")
"""Those that run; `gold` and `train` cost the same for any night."""
NIGHT = "2026-11-21"
"""The night after the sample chats', whose gold the student learns from."""
SEED = 17
_WATCH_SECONDS = 0.5
_MIB = 1024 * 1024

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StageCost:
    """Wall-clock seconds, conversations a second, and the most memory the stage's processes held together, in MiB."""

    stage: str
    seconds: float
    per_second: float
    peak_mib: int


class _Watch(threading.Thread):
    """The most memory a process and its descendants held at once; pages they share count once (PSS)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.done = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self.done.wait(_WATCH_SECONDS):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        total = 0
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        for process in family:
            try:
                total += int(process.memory_full_info().pss)
            except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended between being listed and being asked
                continue
        return total


def _run(stage: str, environment: Mapping[str, str], conversations: int) -> tuple[StageCost, str]:
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", stage, "--ds", NIGHT],
        cwd=PROJECT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watch = _Watch(process.pid)
    watch.start()
    said, _ = process.communicate()
    watch.done.set()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise DongchaError(f"bench: stage {stage} failed:\n{said[-2000:]}")
    last = said.strip().splitlines()[-1] if said.strip() else ""
    return StageCost(stage, round(seconds, 1), round(conversations / seconds, 1), watch.peak // _MIB), last


def bench_night(settings: Settings, conversations: int, *, embeddings: bool, replay: bool, say: Say) -> dict[str, Any]:
    """Generate, run every stage, and with `replay` run them again over their own output.

    Returns:
        conversations, megabytes of the source, and a list of `StageCost` for the run and for the replay.

    Raises:
        DongchaError: a stage failed; its last lines are in the message.
    """
    home = settings.var_dir / "bench" / f"night-{conversations}{'' if embeddings else '-lexical'}"
    shutil.rmtree(home, ignore_errors=True)
    source = settings.var_dir / "bench" / f"chats-{conversations}"
    shutil.copytree(PROJECT / "samples" / "chats", source, dirs_exist_ok=True)
    size = write_chats(source / NIGHT, conversations, NIGHT, SEED).stat().st_size
    environment = {
        **os.environ,
        "DONGCHA_VAR": str(home),
        "DONGCHA_SOURCE__PATH": str(source / "{ds}"),
        "DONGCHA_STUDENT__EMBEDDINGS": str(embeddings).lower(),
        "DONGCHA_LABEL__LLM": "false",
        "DONGCHA_PRIVACY__PSEUDONYM_KEY": "generated-chats-have-no-secrets",
    }
    result: dict[str, Any] = {"conversations": conversations, "megabytes": round(size / 1e6), "embeddings": embeddings}
    for name in ("run", "replay") if replay else ("run",):
        costs = []
        for stage in STAGES:
            cost, last = _run(stage, environment, conversations)
            say(f"{name} {stage}: {cost.seconds} s, {cost.peak_mib} MiB; {last}")
            costs.append(asdict(cost))
        result[name] = costs
    return result
