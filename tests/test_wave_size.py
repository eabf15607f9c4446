"""Waves of questions: about a minute each, whatever answers."""

from __future__ import annotations

from jobs.label import label
from jobs.labelling.wave_size import MOST, WaveSize
from jobs.settings import Settings
from jobs.storage import Tables
from tests.fake_llm import FakeLlm
from tests.small_night import SECOND, WAVE, at, in_waves, oracle


def test_a_fast_server_gets_larger_waves_step_by_step() -> None:
    waves = WaveSize(128, 60.0)
    sizes = []
    for _ in range(5):  # a hundred a second, and three seconds for the commit
        sizes.append(waves.size)
        waves.took(waves.size, waves.size / 100 + 3)
    assert sizes[:3] == [128, 512, 2048]
    assert all(50 < size / 100 + 3 < 70 for size in sizes[3:])


def test_a_slow_one_keeps_the_first_size() -> None:
    waves = WaveSize(128, 60.0)
    waves.took(128, 300.0)
    assert waves.size == 128


def test_a_server_that_slows_down_gets_smaller_waves_again() -> None:
    waves = WaveSize(10, 60.0)
    for seconds in (1.0, 4.0, 16.0):
        waves.took(waves.size, seconds)
    large = waves.size
    waves.took(large, 120.0)
    assert waves.size == large // 2


def test_memory_bounds_a_wave() -> None:
    waves = WaveSize(5_000, 3600.0)
    waves.took(5_000, 0.0)
    assert waves.size == MOST


def test_without_seconds_all_are_alike() -> None:
    waves = WaveSize(4, 0.0)
    waves.took(4, 0.01)
    assert waves.size == 4


def test_a_night_asks_its_second_wave_at_the_speed_of_the_first(tables: Tables, night: Settings) -> None:
    small = in_waves(night)
    patient = small.model_copy(update={"label": small.label.model_copy(update={"wave_seconds": 3600.0})})
    said: list[str] = []
    with FakeLlm(oracle) as fake:
        label(tables, at(patient, fake.base_url), SECOND, say=said.append)
    asked = [
        line.split(": ")[1].split(" prompts")[0] for line in said if line.startswith("LLM,") and " prompts," in line
    ]
    assert asked[:2] == [f"{WAVE} of 9", "9 of 9"]
