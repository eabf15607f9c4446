"""What answers at a serving profile's address."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from jobs.llm.profiles import ServingProfile


def _get(url: str, key: str | None, seconds: float) -> bytes | None:
    """The body of a 200 answer; None for anything else."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path or "/", headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def served_models(profile: ServingProfile, seconds: float = 5.0) -> list[str] | None:
    """Names of the models that every server answering at the profile's addresses serves; None where none answers."""
    answers = [found for one in profile.each() if (found := _models(one, seconds)) is not None]
    if not answers:
        return None
    return [name for name in answers[0] if all(name in other for other in answers)]


def _models(profile: ServingProfile, seconds: float) -> list[str] | None:
    body = _get(f"{profile.url}/models", profile.api_key, seconds)
    if body is None:
        return None
    try:
        data: Any = json.loads(body)
        return [str(entry["id"]) for entry in data["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def is_healthy(profile: ServingProfile, seconds: float = 5.0) -> bool:
    """Whether the server says it can answer: vLLM's `/health` (its engine lives), for others the list of models."""
    if profile.managed:
        return _get(f"{profile.root_url}/health", profile.api_key, seconds) is not None
    return served_models(profile, seconds) is not None


def read_metrics(profile: ServingProfile, seconds: float = 5.0) -> dict[str, float]:
    """vLLM's Prometheus counters, summed over labels and servers; empty where there are none."""
    bodies = [_get(f"{one.root_url}/metrics", one.api_key, seconds) or b"" for one in profile.each()]
    totals: dict[str, float] = {}
    for line in b"\n".join(bodies).decode("utf-8", "replace").splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, value = line.rpartition(" ")
        try:
            number = float(value)
        except ValueError:
            continue
        key = name.split("{", 1)[0]
        totals[key] = totals.get(key, 0.0) + number
    return totals
