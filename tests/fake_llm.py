"""An OpenAI-compatible endpoint on loopback that answers as a test wants, in a thread of its own.

with FakeLlm([reply_status(500), reply_json({"tags": [], "cannot_tell": False})]) as fake:
    ...  # fake.base_url; fake.requests holds the bodies it got
Replies are used in order, the last one for ever; a callable gets the request's body and returns a reply.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from aiohttp import web

MODEL = "fake-model"


@dataclass(frozen=True)
class Reply:
    """`content` becomes the assistant's message; `raw` replaces the whole body; `delay` is seconds."""

    content: str = ""
    status: int = 200
    finish_reason: str = "stop"
    delay: float = 0.0
    raw: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


Script = Reply | Callable[[dict[str, Any]], Reply]


def reply_json(value: Any) -> Reply:
    return Reply(json.dumps(value, ensure_ascii=False))


def reply_status(status: int, **headers: str) -> Reply:
    return Reply(status=status, headers=tuple((k.replace("_", "-"), v) for k, v in headers.items()))


def reply_whitespace() -> Reply:
    """What a weak model does under a grammar that lets it: blanks until the limit."""
    return Reply('{"tags": [' + " \n" * 200, finish_reason="length")


class FakeLlm:
    def __init__(self, script: Sequence[Script] | Script, model: str = MODEL) -> None:
        self._script = list(script) if isinstance(script, Sequence) else [script]
        self.model = model
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self.base_url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="")

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        step = self._script[min(len(self.requests), len(self._script) - 1)]
        self.requests.append(body)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = step if isinstance(step, Reply) else step(body)
            await asyncio.sleep(reply.delay)
        finally:
            self._at_once -= 1
        headers = dict(reply.headers)
        if reply.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=reply.status, headers=headers)
        if reply.raw is not None:
            return web.Response(text=reply.raw, content_type="application/json", headers=headers)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.content},
            "finish_reason": reply.finish_reason,
        }
        details = {"prompt_tokens_details": {"cached_tokens": 80}}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110} | details
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": self.model}
        return web.json_response(answer | {"choices": [choice], "usage": usage}, headers=headers)

    async def _start(self) -> web.AppRunner:
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def __enter__(self) -> FakeLlm:
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
