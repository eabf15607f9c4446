"""The benchmark of `label.band: proven`, and with it how often a proven band is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.bench.band import band_table, bench_band, draw, simulated_llm
from jobs.conversation import Conversation, Turn
from jobs.cost_curve import Tried
from jobs.errors import InputError
from jobs.guarantee import Target
from jobs.settings import Settings

TAGS = 6
TARGET = Target(0.9, 0.9, 0.95)
FIXED = (0.2, 0.8)


def population(n: int, wrong: float) -> Tried:
    """n conversations whose tags come and go wrong in pairs; a calibrated student; an LLM as bad as `wrong`."""
    generator = np.random.default_rng(5)
    pair = generator.integers(0, TAGS // 2, size=n)
    gold = np.repeat(np.eye(TAGS // 2, dtype=bool)[pair], 2, axis=1)
    doubt = np.repeat(generator.beta(0.25, 2.0, size=(n, TAGS // 2)), 2, axis=1)
    mistaken = np.repeat(generator.random((n, TAGS // 2)), 2, axis=1) < doubt
    probabilities = np.where(gold ^ mistaken, 1 - doubt, doubt)
    llm = simulated_llm(gold, probabilities, wrong, 3)
    return Tried(gold, probabilities, probabilities >= 0.5, llm, *(np.ones(n, np.bool_),) * 2)


def test_the_simulated_llm_errs_as_often_as_it_is_told() -> None:
    seen = population(4_000, 0.1)
    missed = (seen.gold & ~seen.llm).sum() / seen.gold.sum()
    added = (~seen.gold & seen.llm).sum() / seen.gold.sum()
    assert 0.08 < missed < 0.12 and 0.08 < added < 0.12
    assert (simulated_llm(seen.gold, seen.probabilities, 0.0, 1) == seen.gold).all()


@pytest.mark.parametrize("wrong", [0.02, 0.06, 0.09])
def test_a_proven_band_seldom_misses_the_target(wrong: float) -> None:
    """Two hundred draws of a hundred conversations; 1 - confidence is one in twenty."""
    seen = population(6_000, wrong)
    draws = [np.random.default_rng([1, i]).permutation(6_000)[:100] for i in range(200)]
    outcomes = [draw(seen, rows, TARGET, FIXED) for rows in draws]
    broken = [one.proven and min(one.precision, one.recall) < 0.9 for one in outcomes]
    assert np.mean(broken) <= 0.05
    if wrong == 0.02:  # a test of nothing proven would prove nothing
        assert np.mean([one.proven for one in outcomes]) > 0.5


def test_a_student_and_a_table(settings: Settings) -> None:
    words = {"card": "my card is lost {}", "loan": "i need a loan {}", "fee": "why this fee {}"}
    chats = [
        Conversation(f"{tag}-{i}", (Turn("customer", text.format(i)),), (tag,))
        for i in range(20)
        for tag, text in words.items()
    ]
    lexical = settings.model_copy(update={"student": settings.student.model_copy(update={"embeddings": False})})
    rows, path = bench_band(lexical, chats, [0.0, 0.3], [20], draws=3)
    assert [(row["wrong"], row["calibration"]) for row in rows] == [(0.0, 20), (0.3, 20)]
    assert all(0 <= row["asked"] <= 1 for row in rows) and Path(path).is_file()
    assert band_table(rows).row_count == 2
    with pytest.raises(InputError, match="80 are needed"):
        bench_band(lexical, chats, [0.0], [40], draws=1)
