"""Benchmark: what the cascade pays against the naive way, on the same conversations and server, and how good each is.

The naive way asks about every conversation, conversation first and instructions after it, and takes whatever JSON it
finds in free text. The cascade learns from TRAIN, asks only where its student is unsure of a tag that the LLM decides,
constant part first, each content once. TEST's labels are looked at when everybody has answered.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from openai import APIError, AsyncOpenAI, DefaultAioHttpClient

from jobs.bench.measure import Measured, measure, salted, save
from jobs.cascade import Bands
from jobs.conversation import Conversation
from jobs.errors import ServerError
from jobs.evaluation.evaluate import scores_of
from jobs.evaluation.job import Job
from jobs.evaluation.llm import LearnedCascade, label_cascade, learn_cascade, llm_alone, taxonomy_from_labels
from jobs.llm.client import in_flight_bound
from jobs.llm.labelling import LabelPrompt
from jobs.llm.profiles import ServingProfile, load_profile

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Run:
    """One way of labelling: what it cost, and its decisions (n, t); None where only the cost was wanted.

    `unanswered`: about so many conversations there was no answer that could be used, of the naive way none at all.
    """

    cost: Measured
    decisions: Bools | None = None
    unanswered: int = 0


def tags_in_text(text: str, tags: Sequence[str]) -> list[bool]:
    """Which tags the first JSON object in a free answer names, as its `tags` list of words or of objects with `tag`.

    Whatever cannot be read names none.
    """
    start = text.find("{")
    try:
        read = json.JSONDecoder().raw_decode(text, start)[0] if start >= 0 else {}
    except (ValueError, RecursionError):
        read = {}
    listed = read.get("tags")
    entries = listed if isinstance(listed, list) else []
    said = [entry.get("tag") if isinstance(entry, dict) else entry for entry in entries]
    return [tag in said for tag in tags]


async def _naive(profile: ServingProfile, job: Job, prompt: LabelPrompt) -> tuple[Bools, int]:
    """(n, t) decisions, and how many requests failed: these have cost no token."""
    slots = asyncio.Semaphore(in_flight_bound(profile, job.settings.llm))
    async with AsyncOpenAI(
        base_url=profile.url,
        api_key=profile.api_key or "none",
        max_retries=0,
        timeout=job.settings.llm.timeout_seconds,
        http_client=DefaultAioHttpClient(),
    ) as api:
        done = failed = 0

        async def one(chat: Conversation) -> list[bool]:
            nonlocal done, failed
            try:
                async with slots:
                    answer = await api.chat.completions.create(
                        model=profile.served_model_name,
                        messages=[{"role": "user", "content": f"{prompt.windows(chat)[0].text}\n\n{prompt.system}"}],
                        max_tokens=profile.max_output_tokens,
                        temperature=0.0,
                        extra_body=dict(profile.extra_body),
                    )
                text = answer.choices[0].message.content or ""
            except APIError:
                text, failed = "", failed + 1  # the naive way has no second try
            done += 1
            job.progress("naive", done, len(job.test))
            return tags_in_text(text, prompt.tag_ids)

        said = np.array(await asyncio.gather(*(one(chat) for chat in job.test)), np.bool_)
    if failed == len(said):
        raise ServerError("the naive way got no answer at all: see `python -m jobs serve status`")
    return said, failed


def _unsure(job: Job, learned: LearnedCascade) -> list[Conversation]:
    """Each content of TEST once, where the student is unsure of any tag: as if the LLM decided them all."""
    distinct = list({chat.content_hash: chat for chat in job.test}.values())
    probabilities = learned.student.predict(distinct).probabilities
    label = job.settings.label
    bands = Bands.plain(probabilities.shape[1], label.unsure_low, label.unsure_high)
    return [distinct[i] for i in np.flatnonzero(bands.unsure(probabilities).any(axis=1)).tolist()]


def _measure_all(job: Job) -> tuple[dict[str, Run], LearnedCascade, int]:
    """Every run has a prefix cache of its own."""
    profile = load_profile(job.settings)
    prompt = LabelPrompt(job.taxonomy or taxonomy_from_labels(job.train, job.tags), profile, tags=job.tags)
    said: dict[str, tuple[Bools, int]] = {}
    learned: list[LearnedCascade] = []

    def fresh(test: Sequence[Conversation] | None = None) -> Job:
        return replace(job, test=job.test if test is None else test, profile=salted(profile, uuid.uuid4().hex))

    def naive() -> None:
        said["naive"] = asyncio.run(_naive(salted(profile, uuid.uuid4().hex), job, prompt))

    def alone() -> None:
        found = llm_alone(fresh())
        said["prompt"] = found.decisions, int((~found.answered).sum())

    def learn() -> None:
        learned.append(learn_cascade(fresh()))

    def label() -> None:
        found = label_cascade(fresh(), learned[0])
        said["cascade"] = found.decisions, found.unanswered

    def unsure() -> None:
        llm_alone(fresh(asked))

    costs = {"naive": measure(profile, naive), "prompt": measure(profile, alone)}
    costs["learn"] = measure(profile, learn)
    costs["cascade"] = measure(profile, label)
    asked = _unsure(job, learned[0])
    costs["unsure"] = measure(profile, unsure)
    return {name: Run(cost, *said.get(name, ())) for name, cost in costs.items()}, learned[0], len(asked)


def _figures(run: Run, gold: Sequence[Conversation], job: Job) -> dict[str, Any]:
    cost = asdict(run.cost) | {"computed_tokens": run.cost.computed_tokens}
    if run.decisions is None:
        return cost
    found = scores_of(gold, job.tags, run.decisions, job.taxonomy, job.settings.gate.confidence)
    if not found:
        return cost | {"unanswered": run.unanswered}
    interval = found["micro_intervals"]["f1"]
    f1 = {"f1": found["micro"]["f1"], "f1_interval": [interval["low"], interval["high"]]}
    return cost | f1 | {"unanswered": run.unanswered}


def _times(first: int, second: int) -> float | None:
    """How many times more; None where the second is nothing."""
    return first / second if second else None


def bench_naive(job: Job, gold: Sequence[Conversation]) -> tuple[dict[str, Any], Path]:
    """Measure on TEST: naive; our prompt for every conversation; learning the cascade from TRAIN (once for a taxonomy
    and a model); labelling by the cascade; our prompt for whatever the student is unsure of.

    `gold` is TEST with its labels, scored as `evaluate` does. Ratios are naive prompt tokens computed, divided by the
    other way's.

    Raises:
        ServerError: no vLLM server is up, or one of the ways got no answer.
    """
    runs, learned, unsure = _measure_all(job)
    naive = runs["naive"].cost.computed_tokens
    spent = {name: run.cost.computed_tokens for name, run in runs.items()}
    result = {
        "conversations": len(job.test),
        "tags": len(job.tags),
        "tags_decided_by_llm": int(learned.llm_decides.sum()),
        "unsure_conversations": unsure,
        "runs": {name: _figures(run, gold, job) for name, run in runs.items()},
        "times_fewer_computed_tokens": {
            "prompt": _times(naive, spent["prompt"]),
            "cascade": _times(naive, spent["cascade"]),
            "cascade_with_learning": _times(naive, spent["cascade"] + spent["learn"]),
            "unsure": _times(naive, spent["unsure"]),
        },
    }
    return result, save(job.settings, "naive", load_profile(job.settings), result)
