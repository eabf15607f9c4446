"""`evaluate` from files to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs.cascade import Bands, TagTrust
from jobs.conversation import Conversation, Turn
from jobs.cost_curve import LOWS
from jobs.errors import InputError, ServerError
from jobs.evaluation import evaluate as module
from jobs.evaluation.evaluate import evaluate, job_of
from jobs.evaluation.llm import LearnedCascade, hold_out, label_cascade, learn_cascade, taxonomy_from_labels
from jobs.evaluation.table import scores_table
from jobs.settings import LlmSettings, Settings, StudentSettings
from jobs.student.embed import Embedder
from jobs.student.model import Student
from tests.fake_llm import MODEL, FakeLlm, Reply, reply_json, reply_status, reply_whitespace

Line = dict[str, Any]
TEXTS = {
    "card": ["my card is lost", "the card was swallowed", "where is my new card", "card not working", "block the card"],
    "loan": ["i need a loan", "what are loan rates", "pay back my loan", "a loan for a car", "loan please today"],
    "fee": ["why this fee", "the fee is too high", "waive the fee", "a hidden fee appeared", "what fee do you take"],
}
BOTH = ["my card has a fee", "a loan with a fee"]


def line(name: str, text: str, labels: Sequence[str] | None) -> Line:
    turns = [{"speaker": "advisor", "text": "hello"}, {"speaker": "customer", "text": text}]
    return {"conversation_id": name, "turns": turns} | ({} if labels is None else {"labels": list(labels)})


def train_lines() -> list[Line]:
    lines = [line(f"{tag}{r}{i}", text, [tag]) for r in "ab" for tag in TEXTS for i, text in enumerate(TEXTS[tag])]
    lines += [line(f"b{r}", BOTH[r % 2], [("card", "loan")[r % 2], "fee"]) for r in range(4)]
    return lines + [line(f"n{r}", "hello good morning", []) for r in range(4)]


TEST = [
    line("t1", "please block my card", ["card"]),
    line("t2", "how high is the fee on a loan", ["loan", "fee"]),
    line("t3", "good morning", []),
]

Files = Callable[[str, Sequence[Line]], Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def write(name: str, lines: Sequence[Line]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(entry) + "\n" for entry in lines), "utf-8")
        return path

    return write


@pytest.fixture
def lexical(settings: Settings) -> Settings:
    return settings.model_copy(update={"student": StudentSettings(embeddings=False)})


def with_llm(settings: Settings, url: str) -> Settings:
    llm = LlmSettings(profile="endpoint", base_url=url, model=MODEL, retries=1, backoff_seconds=0.01)
    return settings.model_copy(update={"llm": llm})


def read(path: Path) -> list[Line]:
    return [json.loads(row) for row in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("labeller", ["student", "baseline"])
def test_writes_the_promised_files(labeller: str, files: Files, lexical: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = evaluate(
        files("train", train_lines()), files("test", TEST), taxonomy=None, labeller=labeller, out=out, settings=lexical
    )
    scores = json.loads((out / "scores.json").read_text("utf-8"))
    assert scores == json.loads(json.dumps(result))
    assert {"micro", "macro", "tags", "conversations", "seconds", "llm_requests"} <= set(scores)
    assert set(scores["micro"]) == set(scores["macro"]) == {"precision", "recall", "f1"}
    assert set(scores["tags"]) == {"card", "fee", "loan"}
    wanted = {"precision", "recall", "f1", "support", "precision_low", "recall_low"}
    assert all(wanted <= set(entry) for entry in scores["tags"].values())
    assert (scores["conversations"], scores["scored"], scores["llm_requests"]) == (3, 3, 0)
    assert scores["micro"]["f1"] >= 0.8
    lines = read(out / "predictions.jsonl")
    assert [entry["conversation_id"] for entry in lines] == ["t1", "t2", "t3"]
    assert lines[0]["labels"] == ["card"]
    assert all(set(entry["confidence"]) == set(entry["labels"]) for entry in lines)
    assert all(0 <= value <= 1 for entry in lines for value in entry["confidence"].values())


def test_the_baseline_reads_embeddings_only_where_it_is_told(
    files: Files, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def embed(self: Embedder, texts: Sequence[str], progress: object = None) -> npt.NDArray[np.float32]:
        seen.append(len(texts))
        return np.eye(len(texts), self.dimensions, dtype=np.float32)

    monkeypatch.setattr(Embedder, "embed", embed)
    train, test = files("train", train_lines()), files("test", TEST)
    common: dict[str, Any] = {"taxonomy": None, "out": tmp_path / "out", "settings": settings}
    evaluate(train, test, labeller="baseline", **common)
    assert seen == []
    result = evaluate(train, test, labeller="baseline-both", **common)
    assert seen == [len(train_lines()), len(TEST)] and result["micro"]["f1"] >= 0.8


def test_labels_of_test_change_no_prediction(files: Files, lexical: Settings, tmp_path: Path) -> None:
    train = files("train", train_lines())
    wrong = [entry | {"labels": ["fee", "brand_new"]} for entry in TEST]
    bare = [{k: v for k, v in entry.items() if k != "labels"} for entry in TEST]
    written = []
    for name, lines in (("right", TEST), ("wrong", wrong), ("bare", bare)):
        out = tmp_path / name
        evaluate(train, files(name + ".jsonl", lines), taxonomy=None, labeller="student", out=out, settings=lexical)
        written.append((out / "predictions.jsonl").read_bytes())
    assert written[0] == written[1] == written[2]
    scores = json.loads((tmp_path / "wrong" / "scores.json").read_text("utf-8"))
    assert scores["tags"]["brand_new"]["recall"] == 0.0
    assert scores["tags"]["brand_new"]["support"] == 3
    assert scores["labels_only_in_test"] == ["brand_new"]


def test_predictions_are_on_disk_before_labels_are_looked_at(
    files: Files, lexical: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(test: Sequence[Conversation], *rest: object) -> dict[str, Any]:
        assert any(c.labels for c in test)
        assert len(read(tmp_path / "out" / "predictions.jsonl")) == 3
        return {}

    monkeypatch.setattr(module, "scores_of", look)
    train, test = files("train", train_lines()), files("test", TEST)
    evaluate(train, test, taxonomy=None, labeller="student", out=tmp_path / "out", settings=lexical)


def test_without_gold_there_are_predictions_and_no_scores(files: Files, lexical: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train = files("train", train_lines())
    evaluate(train, files("test", TEST), taxonomy=None, labeller="student", out=out, settings=lexical)
    bare = [{k: v for k, v in entry.items() if k != "labels"} for entry in TEST]
    result = evaluate(train, files("bare", bare), taxonomy=None, labeller="student", out=out, settings=lexical)
    assert not (out / "scores.json").exists()
    assert "micro" not in result
    assert result["conversations"] == 3
    some = [*TEST[:2], bare[2]]
    result = evaluate(train, files("some", some), taxonomy=None, labeller="student", out=out, settings=lexical)
    assert (result["conversations"], result["scored"]) == (3, 2)


def test_taxonomy_decides_the_tags(files: Files, lexical: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "t.yaml"
    tree.write_text("tags:\n- {id: fee, definition: asks about a fee}\n- {id: card, definition: about a card}\n")
    train, test = files("train", train_lines()), files("test", TEST)
    result = evaluate(train, test, taxonomy=tree, labeller="student", out=tmp_path / "o", settings=lexical)
    assert list(result["tags"]) == ["fee", "card"]
    assert result["labels_outside_taxonomy"] == ["loan"]
    tree.write_text("tags:\n- {id: other, definition: x}\n")
    with pytest.raises(InputError, match="is a tag id of the taxonomy"):
        evaluate(train, test, taxonomy=tree, labeller="student", out=tmp_path / "o", settings=lexical)


def test_what_cannot_be_used_is_named(files: Files, lexical: Settings, tmp_path: Path) -> None:
    train, test = files("train", train_lines()), files("test", TEST)
    bare = files("bare", [line("a", "x", None)])
    with pytest.raises(InputError, match="TRAIN holds no labels"):
        evaluate(bare, test, taxonomy=None, labeller="student", out=tmp_path / "o", settings=lexical)
    with pytest.raises(InputError, match="choose one of"):
        evaluate(train, test, taxonomy=None, labeller="oracle", out=tmp_path / "o", settings=lexical)


def _asked_text(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def say_card(body: dict[str, Any]) -> Reply:
    """Tags `card` where the customer says so, quoting the word."""
    if "card" not in _asked_text(body):
        return reply_json({"tags": [], "cannot_tell": False})
    return reply_json({"tags": [{"tag": "card", "turns": [1], "quote": "card"}], "cannot_tell": False})


def test_llm_alone(files: Files, lexical: Settings, tmp_path: Path) -> None:
    with FakeLlm(say_card) as fake:
        result = evaluate(
            files("train", train_lines()),
            files("test", TEST),
            taxonomy=None,
            labeller="llm",
            out=tmp_path / "o",
            settings=with_llm(lexical, fake.base_url),
        )
    assert result["llm_requests"] == len(fake.requests) == 3
    assert [entry["labels"] for entry in read(tmp_path / "o" / "predictions.jsonl")] == [["card"], [], []]
    assert "i need a loan" in str(fake.requests[0]["messages"][0])


def test_the_trial_shows_the_llm_no_text_that_it_is_tried_on(files: Files, lexical: Settings, tmp_path: Path) -> None:
    """Every tag is defined, one that only held-out conversations carry by its name; TEST may see all of TRAIN."""
    held = [
        line(f"h{i}", f"case h{i}h", ["fee" if i % 5 else "only_held"]) | {"split": "calibration"} for i in range(9)
    ]
    rest = [line(f"r{i}", f"another case r{i}r", ["fee" if i % 2 else "card"]) for i in range(20)]
    test = files("test", [line("t", "what", None)])
    with FakeLlm(say_card) as fake:
        on = with_llm(lexical, fake.base_url)
        job = job_of(files("train", held + rest), test, None, on, lambda *_: None)
        learned = learn_cascade(job)
        trial = [str(body["messages"][0]["content"]) for body in fake.requests]
        everything = np.ones(3, np.bool_)
        label_cascade(job, replace(learned, bands=Bands.plain(3, -1.0, 2.0), llm_decides=everything))
        later = str(fake.requests[-1]["messages"][0]["content"])
    assert len(trial) == 9 and job.tags == ("card", "fee", "only_held")
    assert all("only_held" in shown and "case r0r" in shown for shown in trial)
    assert not any(f"h{i}h" in shown for shown in trial for i in range(9))
    assert "case h0h" in later


def test_llm_down_or_useless_is_said(files: Files, lexical: Settings, tmp_path: Path) -> None:
    train, test = files("train", train_lines()), files("test", TEST)
    nowhere = with_llm(lexical, "http://127.0.0.1:9/v1")
    with pytest.raises(ServerError, match="serve up"):
        evaluate(train, test, taxonomy=None, labeller="llm", out=tmp_path / "o", settings=nowhere)
    with FakeLlm(reply_status(500)) as fake, pytest.raises(ServerError, match="no usable answer"):
        broken = with_llm(lexical, fake.base_url)
        evaluate(train, test, taxonomy=None, labeller="llm", out=tmp_path / "o", settings=broken)


def test_cascade_asks_only_where_it_may_help(files: Files, lexical: Settings, tmp_path: Path) -> None:
    """Held-out gold decides whom to trust; a useless LLM is asked about held-out training data and nothing else."""
    train, test = files("train", train_lines()), files("test", TEST)
    nothing = reply_json({"tags": [], "cannot_tell": False})
    with FakeLlm(nothing) as fake:
        on = with_llm(lexical, fake.base_url)
        result = evaluate(train, test, taxonomy=None, labeller="cascade", out=tmp_path / "c", settings=on)
        asked = [_asked_text(body) for body in fake.requests]
    alone = evaluate(train, test, taxonomy=None, labeller="student", out=tmp_path / "s", settings=lexical)
    trusted = [entry["tag_id"] for entry in result["llm_trust"] if entry["llm_decides"]]
    assert trusted == [] and result["costs"] == []
    assert [entry["tag_id"] for entry in result["promises"]] == ["card", "fee", "loan"]
    assert {entry["promised"] for entry in result["promises"]} == {"none"}
    assert all(entry["gold"] == 18 for entry in result["promises"])  # of 38 in TRAIN 20 are copies
    assert result["llm_requests"] == len(asked) == len(set(asked)) <= round(38 * 0.25)
    assert not any("please block my card" in text for text in asked)
    assert result["micro"] == alone["micro"]
    predictions = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in "cs"]
    assert predictions[0] == predictions[1]


def test_a_promised_tag_never_reaches_the_llm(files: Files, lexical: Settings, tmp_path: Path) -> None:
    """Targets that TRAIN proves: the student decides alone, though the settings' band calls every tag unsure."""
    gate = lexical.gate.model_copy(update={"target_precision": 0.3, "target_recall": 0.3})
    label = lexical.label.model_copy(update={"unsure_low": -1.0, "unsure_high": 2.0})
    easy = lexical.model_copy(update={"gate": gate, "label": label})
    with FakeLlm(say_card) as fake:
        result = evaluate(
            files("train", train_lines()),
            files("test", TEST),
            taxonomy=None,
            labeller="cascade",
            out=tmp_path / "o",
            settings=with_llm(easy, fake.base_url),
        )
    assert {entry["promised"] for entry in result["promises"]} == {"student"}
    assert result["llm_conversations"] == 0


def test_cascade_lets_a_better_llm_decide_what_the_student_is_unsure_of(
    files: Files, lexical: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(tag_ids: Sequence[str], *rest: object, **more: object) -> list[TagTrust]:
        return [TagTrust(tag, 9, 3, 2, 1, 0.8, tag == "card", "test") for tag in tag_ids]

    monkeypatch.setattr("jobs.evaluation.llm.llm_trust", trusting)
    label = lexical.label.model_copy(update={"unsure_low": -1.0, "unsure_high": 2.0})
    with FakeLlm(say_card) as fake:
        on = with_llm(lexical.model_copy(update={"label": label}), fake.base_url)
        test = [line("u1", "card card fee", None), line("u2", "i need a loan", None)]
        result = evaluate(
            files("train", train_lines()),
            files("test", test),
            taxonomy=None,
            labeller="cascade",
            out=tmp_path / "o",
            settings=on,
        )
    assert result["llm_conversations"] == 2
    assert [point["low"] for point in result["costs"]] == [-1.0, *LOWS]
    assert [point["low"] for point in result["costs"] if point["chosen"]] == [-1.0]  # the settings' band
    assert [entry["labels"] for entry in read(tmp_path / "o" / "predictions.jsonl")] == [["card", "fee"], ["loan"]]


@pytest.mark.parametrize(
    ("whole", "tells", "expected"),
    [
        (False, True, ["card", "loan"]),
        (True, True, ["card", "fee", "loan"]),
        (True, False, ["loan"]),
    ],
)
def test_of_a_conversation_that_is_asked_about_the_llm_decides_all_its_tags(
    whole: bool, tells: bool, expected: list[str], files: Files, lexical: Settings
) -> None:
    """The student is unsure of `card` alone; `card` and `fee` are the LLM's, which sees both or cannot tell."""

    def say(body: dict[str, Any]) -> Reply:
        tags = [{"tag": tag, "turns": [1], "quote": "need"} for tag in ("card", "fee")] if tells else []
        return reply_json({"tags": tags, "cannot_tell": not tells})

    train, test = files("train", train_lines()), files("test", [line("u", "i need a loan", None)])
    bands = Bands(low=(-1.0, 2.0, 2.0), high=(2.0, 2.0, 2.0), accept=(None, None, None))
    mine = np.array([True, True, False])
    with FakeLlm(say) as fake:
        job = job_of(train, test, None, with_llm(lexical, fake.base_url), lambda *_: None)
        assert job.tags == ("card", "fee", "loan")
        student = Student.fit(job.train, job.tags, taxonomy=None, settings=job.settings.student)
        result = label_cascade(job, LearnedCascade(student, bands, mine, mine & whole, (), (), 0))
        assert len(fake.requests) == result.requests == 1
    assert [tag for tag, yes in zip(job.tags, result.decisions[0], strict=True) if yes] == expected


def test_where_no_answer_counts_the_student_decides(files: Files, lexical: Settings) -> None:
    """A trial that was paid for is not thrown away; a server that gives out is an error all the same."""
    train, test = files("train", train_lines()), files("test", TEST)
    bands, all_tags = Bands.plain(3, -1.0, 2.0), np.ones(3, np.bool_)
    for reply in (reply_whitespace(), reply_status(400), reply_status(500)):
        with FakeLlm(reply) as fake:
            job = job_of(train, test, None, with_llm(lexical, fake.base_url), lambda *_: None)
            student = Student.fit(job.train, job.tags, taxonomy=None, settings=job.settings.student)
            learned = LearnedCascade(student, bands, all_tags, all_tags, (), (), 0)
            if reply.status == 500:
                with pytest.raises(ServerError, match="server_error"):
                    label_cascade(job, learned)
                continue
            result = label_cascade(job, learned)
        alone = student.predict(job.test)
        assert (result.asked, result.unanswered) == (3, 3)
        assert (result.decisions == alone.decisions).all() and (result.probabilities == alone.probabilities).all()


def test_a_later_block_of_a_trial_without_a_usable_answer_counts_for_what_it_is(
    files: Files, lexical: Settings, tmp_path: Path
) -> None:
    def tired(body: dict[str, Any]) -> Reply:
        return reply_whitespace() if len(fake.requests) > 16 else say_card(body)

    label = lexical.label.model_copy(update={"unsure_low": -1.0, "unsure_high": 2.0})
    train = [entry | {"split": "calibration" if number % 2 else "train"} for number, entry in enumerate(train_lines())]
    with FakeLlm(tired) as fake:
        result = evaluate(
            files("train", train),
            files("test", TEST),
            taxonomy=None,
            labeller="cascade",
            out=tmp_path / "o",
            settings=with_llm(lexical.model_copy(update={"label": label}), fake.base_url),
        )
        assert len(fake.requests) > 16
    assert {entry["compared"] for entry in result["llm_trust"]} == {16}
    assert result["llm_unanswered"] == result["llm_conversations"] == 3
    assert "about 3: the student decided" in str(scores_table(result).title)


def test_hold_out_keeps_to_splits() -> None:
    def one(name: str, split: str | None, text: str = "") -> Conversation:
        return Conversation(name, (Turn("customer", text or name),), ("a",), split=split)

    rest, held = hold_out([one("1", "train"), one("2", "calibration"), one("3", "train")], seed=1)
    assert [c.conversation_id for c in rest] == ["1", "3"]
    assert [c.conversation_id for c in held] == ["2"]
    rest, held = hold_out([one(str(i), None) for i in range(40)], seed=1)
    assert (len(rest), len(held)) == (30, 10)
    order = np.random.default_rng(1).permutation(40)[:10].tolist()
    assert [c.conversation_id for c in held] == [str(i) for i in sorted(order)]
    with pytest.raises(InputError, match="too few"):
        hold_out([one("1", None)], seed=1)


def test_no_text_is_held_out_and_learned_from() -> None:
    def one(number: int, text: int, split: str | None = None) -> Conversation:
        return Conversation(f"{number}", (Turn("customer", f"say {text}"),), ("a",), split=split)

    for seed in range(5):
        rest, held = hold_out([one(i, i % 30) for i in range(40)], seed)
        assert len(rest) == 30 and len({c.content_hash for c in held}) == len(held) <= 10
        assert not {c.content_hash for c in rest} & {c.content_hash for c in held}
    rest, held = hold_out([one(1, 1), one(2, 2), one(3, 1, "calibration")], seed=1)
    assert [c.conversation_id for c in rest] == ["2"]
    assert [c.conversation_id for c in held] == ["3"]
    loud = Conversation("4", (Turn("customer", "SAY  1"),), ("a",))
    rest, held = hold_out([loud, one(2, 2), one(3, 1, "calibration")], seed=1)
    assert [c.conversation_id for c in rest] == ["2"]


def test_makeshift_taxonomy_shows_short_examples() -> None:
    chats = [Conversation(str(i), (Turn("customer", "x" * 500),), ("a_b",)) for i in range(5)]
    tree = taxonomy_from_labels(chats, ["a_b", "c"])
    assert tree.tag_ids == ("a_b", "c")
    assert tree.tag("a_b").name == "a b"
    assert len(tree.tag("a_b").examples) == 3
    assert all(len(example.text) <= 120 for example in tree.tag("a_b").examples)


def test_test_that_stands_in_train_is_counted(files: Files, lexical: Settings, tmp_path: Path) -> None:
    """Word for word as labellers see it, where TRAIN learns from it."""
    phone = [line("p1", "call 13800000001 about a loan", ["loan"]), line("p2", "a word of nobody", None)]
    again = [line("q1", "call 13900000002 about a loan", ["loan"]), line("q2", "a word of nobody", [])]
    train, test = files("train", [*train_lines(), *phone]), files("test", [*TEST, *again])
    common: dict[str, Any] = {"taxonomy": None, "labeller": "baseline", "out": tmp_path / "o", "settings": lexical}
    result = evaluate(train, test, **common)
    assert result["seen_in_train"] == 1 and "1 stands in TRAIN" in str(scores_table(result).title)
    clean = evaluate(train, files("clean", TEST), **common)
    assert clean["seen_in_train"] == 0 and "TRAIN" not in str(scores_table(clean).title)


def test_a_folder_that_cannot_be_written_is_said_before_anybody_is_asked(
    files: Files, lexical: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*rest: object) -> None:
        pytest.fail("the labeller was asked")

    monkeypatch.setattr(module, "_label", ask)
    train = files("train", train_lines())
    for out in (train, train / "deeper"):
        with pytest.raises(InputError, match="cannot be written"):
            evaluate(train, files("test", TEST), taxonomy=None, labeller="llm", out=out, settings=lexical)
