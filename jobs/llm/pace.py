"""How many requests one server gets at a time: additive increase, multiplicative decrease (Chiu and Jain, 1989)."""

from __future__ import annotations


class Pace:
    """A limit between 1 and `most` that follows what the server can bear.

    It starts at `most`: the profile's `in_flight` is what its server was set up for, and a careful start would leave
    half of it idle for the first minutes of each night. Trouble (overload, timeout, an answer slower than
    `slow_seconds`) halves it, once for all requests that were under way together: they tell of the same moment. Then it
    grows by one with every limit's worth of good answers.
    """

    def __init__(self, most: int, slow_seconds: float) -> None:
        self._most, self._slow_seconds = max(1, most), slow_seconds
        self._limit = float(self._most)
        self._halved_at = float("-inf")

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    def good(self, began: float, now: float, under_way: int) -> None:
        """An answer came. `began`, `now`: seconds on one clock; `under_way`: requests at that time, this one included.

        A limit that is not used up does not grow: nothing was learnt about more.
        """
        if now - began > self._slow_seconds:
            self.trouble(began, now)
        elif under_way >= self.limit:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def trouble(self, began: float, now: float) -> None:
        """A request that began at `began` met overload or came too late."""
        if began < self._halved_at:
            return
        self._limit = max(1.0, self._limit / 2)
        self._halved_at = now
