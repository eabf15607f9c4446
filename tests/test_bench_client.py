"""The client's benchmark: both sides get the same requests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobs.bench import client as module
from jobs.bench.client import bench_client
from jobs.bench.measure import Measured
from jobs.conversation import Conversation, Turn
from jobs.errors import ServerError
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.settings import Settings
from tests.fake_llm import FakeLlm, reply_json, reply_status

CHATS = [Conversation(str(i), (Turn("customer", f"理财到期了{i}"),)) for i in range(5)]
QWEN = read_profile(PROFILES / "gpu-qwen3-8b.yaml")


@pytest.fixture
def template() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that writes prompts: its address, and the bodies of `/tokenize`."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize":
                asked.append(body)
                answer: dict[str, Any] = {"tokens": [len(asked)]}
            else:
                answer = {"prompt": f"prompt {body['tokens'][0]}"}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *rest: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_prompts_are_written_with_what_the_profile_says_of_the_template(
    template: tuple[str, list[dict[str, Any]]],
) -> None:
    """Qwen3's template ends a prompt otherwise where the model shall not think aloud."""
    url, asked = template
    messages = [{"role": "user", "content": "hi"}]
    rows = asyncio.run(module._as_text(QWEN.model_copy(update={"base_url": url}), [(messages, 7), (messages, 9)]))
    assert rows == [{"prompt": "prompt 1", "output_tokens": 7}, {"prompt": "prompt 2", "output_tokens": 9}]
    assert [body["messages"] for body in asked] == [messages] * 2
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in asked)


def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(profile: ServingProfile, run: Callable[[], float | None]) -> Measured:
        return Measured(run() or 2.0, 400, 0, 100, 0.0)

    monkeypatch.setattr(module, "measure", measure)


def at(settings: Settings, fake: FakeLlm) -> Settings:
    llm = settings.llm.model_copy(update={"base_url": fake.base_url, "model": fake.model, "retries": 0})
    return settings.model_copy(update={"llm": llm})


def test_the_limit_gets_what_the_pipeline_sent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    async def as_text(profile: ServingProfile, sent: module.Sent) -> list[dict[str, Any]]:
        return [{"prompt": messages[-1]["content"], "output_tokens": tokens} for messages, tokens in sent]

    def run(command: Sequence[str], **rest: Any) -> subprocess.CompletedProcess[str]:
        options = dict(pairwise(command))
        rows = [json.loads(row) for row in Path(options["--dataset-path"]).read_text("utf-8").splitlines()]
        assert options["--num-prompts"] == "5" and all(row["output_tokens"] == 10 for row in rows)
        # The template has written whatever stands at the start of a prompt.
        extra = json.loads(options["--extra-body"])
        assert extra["add_special_tokens"] is False and extra["cache_salt"]
        seen.append(sorted(row["prompt"] for row in rows))
        out = Path(options["--result-dir"]) / options["--result-filename"]
        out.write_text(json.dumps({"duration": 1.0, "failed": 0}), "utf-8")
        return subprocess.CompletedProcess(command, 0, "", "")

    counted(monkeypatch)
    monkeypatch.setattr(module, "_as_text", as_text)
    monkeypatch.setattr(subprocess, "run", run)
    with FakeLlm(reply_json({"tags": [], "cannot_tell": False})) as fake:
        result, _ = bench_client(at(settings, fake), CHATS, "tokenizer", 2)
        asked = [str(body["messages"][-1]["content"]) for body in fake.requests]
    assert seen == [sorted(asked[:5]), sorted(asked[5:])]
    assert (result["requests"], result["ratios"], result["ratio"]) == (5, [0.5, 0.5], 0.5)


def test_what_stops_the_benchmark_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch)
    with FakeLlm(reply_status(400)) as fake, pytest.raises(ServerError, match="no request was answered"):
        bench_client(at(settings, fake), CHATS, "tokenizer", 1)

    async def as_text(profile: ServingProfile, sent: module.Sent) -> list[dict[str, Any]]:
        return [{"prompt": "x", "output_tokens": 1}]

    monkeypatch.setattr(module, "_as_text", as_text)
    for error, says in (
        (FileNotFoundError(2, "No such file or directory"), "cannot be started"),
        (subprocess.TimeoutExpired("vllm", 1800), "took more than 1800 s"),
    ):

        def run(*rest: Any, error: Exception = error, **more: Any) -> None:
            raise error

        monkeypatch.setattr(subprocess, "run", run)
        with FakeLlm(reply_json({"tags": [], "cannot_tell": False})) as fake, pytest.raises(ServerError, match=says):
            bench_client(at(settings, fake), CHATS, "tokenizer", 1)
