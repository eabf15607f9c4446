"""A run between two readings of the server's own counters."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from os import cpu_count, getloadavg
from pathlib import Path
from typing import Any

from jobs.errors import ServerError
from jobs.llm.probe import read_metrics
from jobs.llm.profiles import ServingProfile
from jobs.settings import Settings

_PROMPT, _OUTPUT = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
_HITS = "vllm:prefix_cache_hits_total"


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens as the server counted them, seconds of wall clock; `load`: the machine's one-minute load average."""

    seconds: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    load: float

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that were not in the prefix cache."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def tokens_per_second(self) -> float:
        """Prompt and output tokens a second."""
        return (self.prompt_tokens + self.output_tokens) / self.seconds


def measure(profile: ServingProfile, run: Callable[[], float | None]) -> Measured:
    """Run and count. `run` returns its own seconds, or None for the wall clock around it.

    Raises:
        ServerError: the server has no vLLM counters, so that nothing could be compared.
    """
    before, began = _counters(profile), time.perf_counter()
    seconds = run()
    wall = time.perf_counter() - began
    after = _counters(profile)
    prompt, output, hits = (round(after[name] - before[name]) for name in (_PROMPT, _OUTPUT, _HITS))
    return Measured(wall if seconds is None else seconds, prompt, hits, output, getloadavg()[0])


def _counters(profile: ServingProfile) -> dict[str, float]:
    found = read_metrics(profile)
    if not {_PROMPT, _OUTPUT, _HITS} <= found.keys():
        raise ServerError(f"no vLLM counters at {profile.root_url}/metrics: run `python -m jobs serve up` first")
    return found


def salted(profile: ServingProfile, salt: str) -> ServingProfile:
    """The profile with a prefix cache of its own, so that one run does not profit from another one's prompts."""
    return profile.model_copy(update={"extra_body": dict(profile.extra_body) | {"cache_salt": salt}})


def save(settings: Settings, name: str, profile: ServingProfile, result: dict[str, Any]) -> Path:
    """Write `var/bench/NAME.json` with the machine and the model it was measured on."""
    return save_figures(settings, name, {"profile": profile.name, "model": profile.served_model_name} | result)


def save_figures(settings: Settings, name: str, result: dict[str, Any]) -> Path:
    """Write `var/bench/NAME.json` with the machine it was measured on."""
    path = settings.var_dir / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {cpu_count()} cores",
    }
    path.write_text(json.dumps(about | result, indent=1) + "\n", "utf-8")
    return path
