"""The forecast's arithmetic, and the server's own counters."""

from __future__ import annotations

import pytest

from jobs.labelling.usage import Spent, prefix_counts
from jobs.llm.profiles import PROFILES, Prices, read_profile
from jobs.plan import Plan
from jobs.planning.forecast import Forecast, Work, forecast
from jobs.planning.rates import Rates
from jobs.planning.table import plan_table
from jobs.settings import CostSettings

NIGHT = "2026-11-20"
WORK = Work(conversations=1000, gold=50, asked=400, questions=900, windows=420, text_tokens=800_000)
RATES = Rates(("2026-11-19",), 500, True, 1.1, 2000.0, 0.75, 40.0, 0.09)
GPU = read_profile(PROFILES / "gpu-qwen3-8b.yaml")


def test_gpu_hours_and_money() -> None:
    got = forecast(WORK, RATES, GPU, CostSettings(gpu_hour=20.0))
    assert (got.requests, got.prompt_tokens, got.cached_tokens, got.output_tokens) == (462, 924_000, 693_000, 18_480)
    assert got.computed_tokens == 231_000
    assert got.gpu_hours == pytest.approx(462 * 0.09 / 3600)
    assert got.gpu_money == pytest.approx(20 * 462 * 0.09 / 3600)
    assert got.token_money is None


def test_tokens_are_priced_by_their_kind() -> None:
    by_token = GPU.model_copy(update={"prices": Prices(input=2.0, cached_input=0.5, output=8.0)})
    got = forecast(WORK, RATES, by_token, CostSettings())
    assert got.token_money == pytest.approx(0.231 * 2.0 + 0.693 * 0.5 + 0.01848 * 8.0)
    assert got.gpu_money is None


def test_what_nobody_measured_is_left_open() -> None:
    got = forecast(WORK, None, GPU, CostSettings(gpu_hour=20.0))
    assert (got.requests, got.prompt_tokens, got.prompt_tokens_estimated) == (420, 800_000, True)
    assert (got.cached_tokens, got.output_tokens, got.seconds, got.gpu_hours, got.gpu_money) == (None,) * 5


def _cell(made: Forecast, row: str) -> str:
    """A row of the table of a plan for this forecast."""
    label, cells = plan_table(Plan(NIGHT, "endpoint", "m", WORK, RATES, made, "CNY", None, ())).columns
    return str(list(cells.cells)[list(label.cells).index(row)])


def test_every_server_has_its_gpus() -> None:
    urls = ["http://a:8000/v1", "http://b:8000/v1"]
    two = read_profile(PROFILES / "endpoint.yaml", urls).model_copy(update={"gpus": 2})
    assert forecast(WORK, RATES, two, CostSettings()).gpu_hours == pytest.approx(4 * 462 * 0.09 / 3600)


def test_gpus_of_servers_of_ones_own_are_not_known_until_the_profile_says() -> None:
    own = read_profile(PROFILES / "endpoint.yaml", "http://a:8000/v1")
    got = forecast(WORK, RATES, own, CostSettings(gpu_hour=18.0))
    assert (got.gpu_hours, got.gpu_money) == (None, None)
    assert "`gpus`" in _cell(got, "GPU-hours") and "`gpus`" in _cell(got, "money")
    assert forecast(WORK, None, own, CostSettings()).gpu_hours is None
    hosted = own.model_copy(update={"gpus": 0})
    assert forecast(WORK, RATES, hosted, CostSettings()).gpu_hours == 0.0
    cpu = read_profile(PROFILES / "cpu-smollm2.yaml")
    assert forecast(WORK, RATES, cpu, CostSettings()).gpu_hours == 0.0


def test_long_chats_count_by_their_windows() -> None:
    many = Work(1000, 50, 400, 900, windows=2000, text_tokens=4_000_000)
    assert forecast(many, RATES, GPU, CostSettings()).requests == 2200


def test_prefix_counters_are_a_difference() -> None:
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    before, after = dict(zip(names, (1000.0, 100.0), strict=True)), dict(zip(names, (3000.0, 1900.0), strict=True))
    assert prefix_counts(before, after) == (2000, 1800)
    assert prefix_counts({}, after) == (None, None), "a server without counters"
    assert prefix_counts(after, before) == (None, None), "a server started anew"
    both = Spent(prefix_queries=2000, prefix_hits=1800) + Spent(requests=3)
    assert both.hit_rate == 0.9 and both.requests == 3 and Spent().hit_rate is None
