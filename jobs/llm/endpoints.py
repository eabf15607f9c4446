"""Several servers of the same model: each request goes to the live one with the fewest under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from openai import AsyncOpenAI, DefaultAioHttpClient

from jobs.llm.pace import Pace

_REST_SECONDS = 2.0
_LONGEST_REST_SECONDS = 60.0
_TIRED_AFTER = 4


class Endpoint:
    """One server: its API, what is under way there, and whether it rests because it failed."""

    def __init__(self, url: str, api_key: str, most: int, timeout_seconds: float) -> None:
        self.url = url
        self.api = AsyncOpenAI(
            base_url=url,
            api_key=api_key,
            max_retries=0,
            timeout=timeout_seconds,
            http_client=DefaultAioHttpClient(),
        )
        # Half of the patience gone: the next step up would be requests that time out.
        self.pace = Pace(most, timeout_seconds / 2)
        self.under_way = 0
        self.rests_until = 0.0
        self._failed_in_a_row = 0

    @property
    def has_room(self) -> bool:
        """Whether one more request may go there."""
        return self.under_way < self.pace.limit

    def well(self, began: float) -> None:
        """It answered a request that began at `began` (monotonic seconds)."""
        self.pace.good(began, time.monotonic(), self.under_way)
        self._failed_in_a_row, self.rests_until = 0, 0.0

    def ill(self, began: float, *, gone: bool) -> None:
        """It failed to: `gone`, nobody answers there; otherwise it was overloaded, late or broken.

        One that is gone, or failed several times in a row, rests: longer each time, and never for good.
        """
        now = time.monotonic()
        self.pace.trouble(began, now)
        self._failed_in_a_row += 1
        tired = self._failed_in_a_row - (1 if gone else _TIRED_AFTER)
        if tired >= 0:
            self.rests_until = now + min(_LONGEST_REST_SECONDS, _REST_SECONDS * 2.0 ** min(tired, 10))


class Endpoints:
    """All servers of a profile."""

    def __init__(self, urls: Sequence[str], api_key: str, most: int, timeout_seconds: float) -> None:
        self.all = [Endpoint(url, api_key, most, timeout_seconds) for url in urls]
        self._freed = asyncio.Condition()

    def _choose(self) -> Endpoint | None:
        """The awake server with the fewest under way; where all rest, the one that wakes first. None: no room."""
        now = time.monotonic()
        awake = [e for e in self.all if e.rests_until <= now]
        if awake:
            return min((e for e in awake if e.has_room), key=lambda e: e.under_way, default=None)
        return min((e for e in self.all if e.has_room), key=lambda e: e.rests_until, default=None)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Endpoint]:
        """A server for one request, waited for."""
        async with self._freed:
            while (chosen := self._choose()) is None:
                await self._freed.wait()
            chosen.under_way += 1
        try:
            yield chosen
        finally:
            async with self._freed:
                chosen.under_way -= 1
                self._freed.notify_all()

    async def close(self) -> None:
        """Close all connections."""
        for endpoint in self.all:
            await endpoint.api.close()
