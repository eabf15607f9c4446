"""Benchmark: what the pipeline pays against the naive way, on the same conversations and server.

The naive way asks about every conversation, conversation first and instructions after it, and hopes for JSON. The
pipeline asks about each content once, only where the student is unsure of a tag, constant part first.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from openai import AsyncOpenAI, DefaultAioHttpClient

from jobs.bench.measure import Measured, measure, salted, save
from jobs.cascade import Bands
from jobs.conversation import Conversation
from jobs.llm.client import LlmClient, in_flight_bound
from jobs.llm.labelling import LabelPrompt, label_conversations
from jobs.llm.profiles import ServingProfile, load_profile
from jobs.settings import Settings
from jobs.student.embed import Embedder
from jobs.student.model import Student
from jobs.students import embedding_cache, student_of_night
from jobs.taxonomy import load_taxonomy


async def _naive(
    settings: Settings, profile: ServingProfile, prompt: LabelPrompt, chats: Sequence[Conversation]
) -> None:
    slots = asyncio.Semaphore(in_flight_bound(profile, settings.llm))
    async with AsyncOpenAI(
        base_url=profile.url,
        api_key=profile.api_key or "none",
        max_retries=0,
        timeout=settings.llm.timeout_seconds,
        http_client=DefaultAioHttpClient(),
    ) as api:

        async def one(chat: Conversation) -> None:
            async with slots:
                await api.chat.completions.create(
                    model=profile.served_model_name,
                    messages=[{"role": "user", "content": f"{prompt.windows(chat)[0].text}\n\n{prompt.system}"}],
                    max_tokens=profile.max_output_tokens,
                    temperature=0.0,
                    extra_body=dict(profile.extra_body),
                )

        await asyncio.gather(*(one(chat) for chat in chats))


async def _pipeline(
    settings: Settings, profile: ServingProfile, prompt: LabelPrompt, chats: Sequence[Conversation]
) -> None:
    async with LlmClient(profile, settings.llm) as client:
        await label_conversations(client, prompt, chats)


def _to_ask(settings: Settings, ds: str, chats: Sequence[Conversation]) -> list[Conversation]:
    """Each content once, where the student of night `ds` is unsure of any tag: as if the LLM might decide all tags."""
    folder = student_of_night(settings, ds)[1]
    student = Student.load(folder, Embedder(embedding_cache(settings), threads=settings.student.threads))
    distinct = list({chat.content_hash: chat for chat in chats}.values())
    probabilities = student.predict(distinct).probabilities
    bands = Bands.plain(probabilities.shape[1], settings.label.unsure_low, settings.label.unsure_high)
    doubtful = np.flatnonzero(bands.unsure(probabilities).any(axis=1))
    return [distinct[i] for i in doubtful.tolist()]


def _figures(run: Measured) -> dict[str, Any]:
    return asdict(run) | {"computed_tokens": run.computed_tokens}


def _times(first: int, second: int) -> float | None:
    """How many times more; None where there is nothing to compare with."""
    return first / second if second else None


def bench_naive(settings: Settings, ds: str, chats: Sequence[Conversation]) -> tuple[dict[str, Any], Path]:
    """Measure the naive way, then the pipeline's prompt on the same conversations, then only what it would ask.

    The student's own seconds count for the pipeline.

    Raises:
        InputError: night `ds` has no student.
        ServerError: no vLLM server is up.
    """
    profile = load_profile(settings)
    prompt = LabelPrompt(load_taxonomy(settings.resolve(settings.label.taxonomy)), profile)
    asked: list[Conversation] = []

    def naive() -> None:
        asyncio.run(_naive(settings, salted(profile, uuid.uuid4().hex), prompt, chats))

    def same_chats() -> None:
        asyncio.run(_pipeline(settings, salted(profile, uuid.uuid4().hex), prompt, chats))

    def pipeline() -> None:
        asked.extend(_to_ask(settings, ds, chats))
        asyncio.run(_pipeline(settings, salted(profile, uuid.uuid4().hex), prompt, asked))

    runs = {
        name: measure(profile, run) for name, run in (("naive", naive), ("prompt", same_chats), ("pipeline", pipeline))
    }
    result = {
        "conversations": len(chats),
        "asked_by_pipeline": len(asked),
        "runs": {name: _figures(run) for name, run in runs.items()},
        "times_fewer_computed_tokens": _times(runs["naive"].computed_tokens, runs["pipeline"].computed_tokens),
        "times_fewer_computed_tokens_by_prompt_alone": _times(
            runs["naive"].computed_tokens, runs["prompt"].computed_tokens
        ),
        "times_faster": runs["naive"].seconds / runs["pipeline"].seconds,
    }
    return result, save(settings, "naive", profile, result)
