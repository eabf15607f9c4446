from __future__ import annotations

import numpy as np
import pandas as pd

from jobs.sampling import allocate, farthest_first, stratified_diverse


def test_every_stratum_gets_its_share() -> None:
    assert allocate({"a": 600, "b": 300, "c": 100}, 10) == {"a": 6, "b": 3, "c": 1}
    small = allocate({"a": 990, "b": 5, "c": 5}, 10)
    assert sum(small.values()) == 10
    assert small["b"] == small["c"] == 1
    assert allocate({"a": 2, "b": 3}, 100) == {"a": 2, "b": 3}
    assert allocate({}, 5) == {}


def test_farthest_first_takes_each_cluster_before_a_second_of_any() -> None:
    centres = np.eye(5, dtype=np.float32) * 10
    vectors = np.repeat(centres, 20, axis=0) + np.random.default_rng(0).normal(0, 0.01, (100, 5)).astype(np.float32)
    picked = farthest_first(vectors, 5, seed=1)
    assert sorted(i // 20 for i in picked) == [0, 1, 2, 3, 4]


def test_copies_are_picked_last() -> None:
    vectors = np.array([[0.0], [0.0], [0.0], [5.0], [9.0]], dtype=np.float32)
    assert {3, 4} <= set(farthest_first(vectors, 3, seed=0))
    assert len(set(farthest_first(vectors, 4, seed=0))) == 4


def test_weights_add_up_to_the_population_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"conversation_id": [str(i) for i in range(60)], "stratum": ["a"] * 40 + ["b"] * 20})
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    populations = {"a": 400, "b": 200}
    chosen = stratified_diverse(frame, populations, vectors, 15, seed=3)
    assert len(chosen) == 15
    assert chosen.groupby("stratum")["weight"].sum().to_dict() == {"a": 400.0, "b": 200.0}
    again = stratified_diverse(frame, populations, vectors, 15, seed=3)
    assert chosen.equals(again)
