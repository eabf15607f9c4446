"""One real vLLM server on the CPU, with the demo's model: answers keep the schema, the prompt's prefix is cached."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jobs.bench.induction import LLM, bench_induction
from jobs.conversation import Conversation, Turn
from jobs.llm.answers import decode_json
from jobs.llm.client import FailureKind, LlmClient, LlmUsage
from jobs.llm.exchange import chat_request
from jobs.llm.labelling import LabelOutcome, LabelPrompt, label_conversations
from jobs.llm.offline import OfflineClient, OfflineFolder, request_line
from jobs.llm.probe import read_metrics
from jobs.llm.profiles import load_profile
from jobs.llm.run_batch import run_batch
from jobs.llm.server import running_server, server_status
from jobs.llm.weights import LLM_VENV
from jobs.settings import PROJECT, LlmSettings, Settings
from jobs.taxonomy import load_taxonomy

pytestmark = [
    pytest.mark.llm,
    pytest.mark.skipif(not (LLM_VENV / "bin" / "vllm").exists(), reason=".venv-llm is not set up: run `make setup`"),
]


@pytest.fixture(scope="module")
def live() -> Iterator[Settings]:
    """A server on a free port; weights and log lie in the project's own `var`, so that they are converted once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(var=Path("var"), llm=LlmSettings(base_url=f"http://127.0.0.1:{port}/v1"))
    with running_server(settings):
        yield settings
    assert server_status(settings).state == "down"


def chat(number: int, text: str) -> Conversation:
    return Conversation(f"c{number}", (Turn("agent", "您好，请讲"), Turn("customer", text), Turn("agent", "好的")))


def test_labels_keep_the_schema_and_the_prefix_is_cached(live: Settings) -> None:
    profile = load_profile(live)
    prompt = LabelPrompt(load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml"), profile)

    async def ask(client: LlmClient, *chats: Conversation) -> list[LabelOutcome]:
        return await label_conversations(client, prompt, chats)

    async def run() -> tuple[LlmUsage, int, list[LabelOutcome]]:
        async with LlmClient(profile, live.llm) as client:
            first = await ask(client, chat(1, "月底那笔理财到期了，还有合适的吗"))
            cached = client.usage.cached_tokens
            rest = await ask(
                client, *(chat(i, text) for i, text in enumerate(["想给孩子存学费", "app登不上去", "哈哈\ud83d"]))
            )
            return client.usage, client.usage.cached_tokens - cached, first + rest

    usage, cached, outcomes = asyncio.run(run())
    assert [outcome.failure for outcome in outcomes] == [None] * 4, "the grammar leaves no room for a bad answer"
    assert usage.requests == 4 and usage.prompt_tokens > 0 and usage.output_tokens > 0
    assert cached >= 3 * 512, "rules and taxonomy come from the prefix cache from the second request on"
    assert read_metrics(profile)["vllm:prefix_cache_hits_total"] >= cached
    assert all(0.0 <= p <= 1.0 for outcome in outcomes for p in outcome.confidence.values())
    assert any(outcome.confidence for outcome in outcomes if outcome.answer and outcome.answer.tags)


def test_a_chat_longer_than_the_context_is_read_window_by_window(live: Settings) -> None:
    """The server refuses what is longer than its context: it takes every window, so none is too long."""
    profile = load_profile(live)
    prompt = LabelPrompt(load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml"), profile)
    lines = ["这只基金最近跌得厉害，我有点睡不着", "Could you please explain the fees of this fund to me once more?"]
    turns = [Turn("customer" if i % 2 else "agent", f"{i}: {lines[i // 2 % 2]}") for i in range(180)]
    long = Conversation("long", (*turns, Turn("customer", "还有，我想给孩子存学费")))
    found = prompt.windows(long)
    assert len(found) >= 3 and found[-1].last_turn == 180

    async def run() -> tuple[LlmUsage, LabelOutcome]:
        async with LlmClient(profile, live.llm) as client:
            (outcome,) = await label_conversations(client, prompt, [long])
            return client.usage, outcome

    usage, outcome = asyncio.run(run())
    # So weak a model may need a second try at a window; none is refused as too long.
    assert outcome.failure is None and usage.answers == len(found)
    said = dict(long.customer_turns)
    assert all(e.turn in said for tag in outcome.answer.tags for e in tag.evidence) if outcome.answer else False


def test_structured_outputs_bind_the_model(live: Settings) -> None:
    """The old field names are ignored in silence: a schema that the prompt never mentions shows that ours binds."""
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 3, "maximum": 5}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }

    async def run() -> object:
        async with LlmClient(load_profile(live), live.llm) as client:
            result = await client.ask([{"role": "user", "content": "Tell me a story."}], schema, "c", decode_json)
            return result.value

    value = asyncio.run(run())
    jsonschema.validate(value, schema)
    assert set(json.loads(json.dumps(value))) == {"colour", "count"}


def test_run_batch_answers_as_the_server_does(live: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very same requests, answered from a file by an engine of its own as by the server.

    Greedy, but sums in batches of another size round otherwise: where two tags are nearly as likely either may win.
    """
    said = ("月底那笔理财到期了，还有合适的吗", "想给孩子存学费", "app登不上去", "哈哈")
    profile = load_profile(live)
    prompt = LabelPrompt(load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml"), profile)
    folder = OfflineFolder(tmp_path, "2026-11-20")
    sent: list[str] = []

    def recorded(*args: Any) -> dict[str, Any]:
        request = chat_request(*args)
        sent.append(request_line(request)[0])
        return request

    async def label(client: LlmClient | OfflineClient) -> list[LabelOutcome]:
        async with client:
            return await label_conversations(client, prompt, [chat(i, text) for i, text in enumerate(said)])

    waiting = asyncio.run(label(OfflineClient(profile, folder, 0)))
    assert [o.failure.kind for o in waiting if o.failure] == [FailureKind.DEFERRED] * len(said)
    files = (folder.folder / "requests").glob("*.jsonl")
    asked = [json.loads(line)["custom_id"] for file in files for line in file.read_text().splitlines()]
    monkeypatch.setattr("jobs.llm.run_batch.offline_folder", lambda *_: folder)
    assert run_batch(live, "2026-11-20", most=100, say=print).open == 0
    offline = asyncio.run(label(OfflineClient(profile, folder, 0)))
    monkeypatch.setattr("jobs.llm.client.chat_request", recorded)
    online = asyncio.run(label(LlmClient(profile, live.llm)))
    assert sorted(sent) == sorted(asked) and len(asked) == len(said)
    for ours, theirs in zip(offline, online, strict=True):
        assert ours.answer is not None and theirs.answer is not None
        assert ours.confidence and theirs.confidence
        assert max(ours.confidence.values()) == pytest.approx(max(theirs.confidence.values()), abs=0.05)


def test_the_induction_benchmark_asks_the_llm_of_the_settings(live: Settings, tmp_path: Path) -> None:
    nouns = {"card": "block my card", "loan": "repay the loan early", "pin": "forgot the pin number"}
    chats = [
        {
            "conversation_id": f"{tag}{i}",
            "turns": [{"speaker": "customer", "text": f"{text} {'abcdefgh'[i]}"}],
            "turn_labels": [[tag]],
        }
        for tag, text in nouns.items()
        for i in range(8)
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(record) + "\n" for record in chats), "utf-8")
    settings = live.model_copy(update={"var": tmp_path / "var"})
    result = bench_induction(settings, [tmp_path / "set.jsonl"], [], lambda _: None, llm=True)
    assert set(result["average"]) == {"kmeans", "consensus", "recipe", LLM}
    steps = (settings.var_dir / "bench" / "induction" / LLM / "set" / "llm_steps.jsonl").read_text("utf-8")
    asked = [json.loads(line) for line in steps.splitlines()]
    assert any(step.get("attempts") for step in asked), "the server answered at least one question about names"
