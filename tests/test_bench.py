"""What the benchmarks measure with."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from jobs.bench import measure as measuring
from jobs.bench.measure import measure, salted, save
from jobs.errors import ServerError
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.settings import Settings
from tests.fake_llm import FakeLlm, reply_json

NAMES = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:prefix_cache_hits_total")
PROFILE = read_profile(PROFILES / "cpu-smollm2.yaml")


def test_tokens_are_what_the_server_counted_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: Iterator[tuple[float, ...]] = iter([(1000.0, 50.0, 700.0), (5000.0, 250.0, 3700.0)])

    def counters(profile: ServingProfile) -> dict[str, float]:
        return dict(zip(NAMES, next(readings), strict=True))

    monkeypatch.setattr(measuring, "read_metrics", counters)
    got = measure(PROFILE, lambda: 10.0)
    assert (got.prompt_tokens, got.cached_tokens, got.computed_tokens, got.output_tokens) == (4000, 3000, 1000, 200)
    assert got.tokens_per_second == 420.0


def test_a_server_without_counters_is_refused() -> None:
    with FakeLlm(reply_json({})) as fake:
        at = PROFILE.model_copy(update={"base_url": fake.base_url})
        with pytest.raises(ServerError, match="no vLLM counters"):
            measure(at, lambda: None)


def test_every_run_has_a_prefix_cache_of_its_own() -> None:
    qwen = read_profile(PROFILES / "gpu-qwen3-8b.yaml")
    got = salted(qwen, "run-1").extra_body
    assert got["cache_salt"] == "run-1" and got["chat_template_kwargs"] == {"enable_thinking": False}
    assert "cache_salt" not in qwen.extra_body


def test_results_say_what_they_were_measured_on(settings: Settings) -> None:
    saved = json.loads(save(settings, "x", PROFILE, {"ratio": 0.5}).read_text("utf-8"))
    assert saved["ratio"] == 0.5 and saved["model"] == "smollm2-135m-instruct" and "cores" in saved["machine"]
