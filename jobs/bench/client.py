"""Benchmark: the pipeline's client against what `vllm bench serve` reaches on the same server and request mix.

Both runs start with an empty prefix cache of their own; tokens are the server's own counts. The limit writes the same
number of tokens for each prompt freely, without grammar, evidence or log-probabilities: what they cost is the client's.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from openai.types.chat import ChatCompletion

from jobs.bench.measure import Measured, measure, salted, save
from jobs.conversation import Conversation
from jobs.errors import ServerError
from jobs.llm.client import LlmClient, in_flight_bound
from jobs.llm.labelling import LabelPrompt, label_conversations
from jobs.llm.profiles import ServingProfile, load_profile
from jobs.settings import PROJECT, Settings
from jobs.taxonomy import load_taxonomy

_TIMEOUT_SECONDS = 1800

Sent = list[tuple[list[dict[str, str]], int]]
"""(messages, output tokens) of every response."""


class _RecordingClient(LlmClient):
    """The pipeline's client; remembers what was sent and how many tokens came back, retries included."""

    def __init__(self, profile: ServingProfile, settings: Settings) -> None:
        super().__init__(profile, settings.llm)
        self.sent: Sent = []

    def _count(self, request: dict[str, Any], completion: ChatCompletion) -> None:
        super()._count(request, completion)
        if completion.usage is not None:
            self.sent.append((request["messages"], completion.usage.completion_tokens))


async def _label(settings: Settings, profile: ServingProfile, chats: Sequence[Conversation]) -> Sent:
    prompt = LabelPrompt(load_taxonomy(settings.resolve(settings.label.taxonomy)), profile)
    client = _RecordingClient(profile, settings)
    async with client:
        await label_conversations(client, prompt, chats)
    return client.sent


def _pipeline(settings: Settings, profile: ServingProfile, chats: Sequence[Conversation], sent: Sent) -> None:
    sent.extend(asyncio.run(_label(settings, salted(profile, uuid.uuid4().hex), chats)))


async def _as_text(profile: ServingProfile, sent: Sent) -> list[dict[str, Any]]:
    """The prompts as the server's chat template writes them, for the completions API."""
    headers = {"Authorization": f"Bearer {profile.api_key}"} if profile.api_key else {}
    written = {name: value for name, value in profile.extra_body.items() if name == "chat_template_kwargs"}
    rows = []
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
        for messages, output_tokens in sent:
            body: dict[str, Any] = {"model": profile.served_model_name, "messages": messages} | written
            async with session.post(f"{profile.root_url}/tokenize", json=body) as answer:
                tokens = (await answer.json())["tokens"]
            body = {"model": profile.served_model_name, "tokens": tokens}
            async with session.post(f"{profile.root_url}/detokenize", json=body) as answer:
                rows.append({"prompt": (await answer.json())["prompt"], "output_tokens": output_tokens})
    return rows


def _limit(profile: ServingProfile, tokenizer: str, dataset: Path, at_once: int) -> float:
    """Seconds that `vllm bench serve` takes for the dataset."""
    program = PROJECT / profile.command[0] if "/" in profile.command[0] else profile.command[0]
    out = dataset.with_name("result.json")
    # The chat template has written what stands at the start of a prompt.
    extra = {"cache_salt": uuid.uuid4().hex, "temperature": 0.0, "add_special_tokens": False}
    options = {
        "backend": "openai",
        "base-url": profile.root_url,
        "endpoint": "/v1/completions",
        "model": profile.served_model_name,
        "tokenizer": tokenizer,
        "dataset-name": "custom",
        "dataset-path": dataset,
        "custom-output-len": -1,
        "num-prompts": sum(1 for _ in dataset.open(encoding="utf-8")),
        "max-concurrency": at_once,
        "extra-body": json.dumps(extra),
        "ready-check-timeout-sec": 0,
        "result-dir": out.parent,
        "result-filename": out.name,
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    bare = ["--skip-chat-template", "--ignore-eos", "--disable-shuffle", "--save-result"]
    command = [program, "bench", "serve", *flags, *bare]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except OSError as error:
        raise ServerError(f"{program} cannot be started ({error.strerror}): install vLLM on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"vllm bench serve took more than {_TIMEOUT_SECONDS} s: give a smaller --limit") from error
    if "No module named 'pandas'" in done.stderr:
        raise ServerError("`vllm bench serve` reads its prompts with pandas: install pandas beside vLLM first")
    if done.returncode != 0 or not out.is_file():
        raise ServerError(f"vllm bench serve failed (exit {done.returncode}): {done.stderr[-1500:]}")
    found = json.loads(out.read_text("utf-8"))
    if found["failed"]:
        raise ServerError(f"vllm bench serve: {found['failed']} of its requests failed")
    return float(found["duration"])


def bench_client(
    settings: Settings, chats: Sequence[Conversation], tokenizer: str, rounds: int
) -> tuple[dict[str, Any], Path]:
    """Measure both in turn, `rounds` times; the ratio is the median of the rounds' ratios.

    Args:
        chats: what to label.
        tokenizer: folder or hub name of the served model's tokenizer, for `vllm bench serve`.

    Raises:
        ServerError: no vLLM server is up, or its benchmark failed.
    """
    profile = load_profile(settings)
    found: list[tuple[Measured, Measured]] = []
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(scratch) / "prompts.jsonl"
        for _ in range(rounds):
            sent: Sent = []
            ours = measure(profile, partial(_pipeline, settings, profile, chats, sent))
            if not sent:
                raise ServerError("no request was answered: see `python -m jobs serve status`")
            rows = asyncio.run(_as_text(profile, sent))
            dataset.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
            at_once = in_flight_bound(profile, settings.llm)
            theirs = measure(profile, partial(_limit, profile, tokenizer, dataset, at_once))
            found.append((ours, theirs))
    ratios = [ours.tokens_per_second / theirs.tokens_per_second for ours, theirs in found]
    result = {
        "conversations": len(chats),
        "requests": len(sent),
        "in_flight": in_flight_bound(profile, settings.llm),
        "ratio": median(ratios),
        "ratios": ratios,
        "rounds": [
            {
                name: asdict(run) | {"tokens_per_second": run.tokens_per_second}
                for name, run in (("pipeline", ours), ("vllm_bench_serve", theirs))
            }
            for ours, theirs in found
        ],
    }
    return result, save(settings, "client", profile, result)
