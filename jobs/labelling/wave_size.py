"""How many conversations go into the next wave of questions."""

from __future__ import annotations

MOST = 8_192
"""A wave's texts and answers are held by the Spark tasks that ask."""
_GROWTH = 4


class WaveSize:
    """As many as are asked and committed in about `seconds`, by the speed of the wave before; at least `fewest`.

    A commit costs some seconds of Spark whatever is in it, and while it lasts the server idles: a GPU answers a
    hundred conversations in a second. A long wave costs whoever is killed in it what it had paid for; hence seconds
    and not a number. A wave is at most four times the one before, as the first may be of a warm cache. With no seconds
    all waves are alike.
    """

    def __init__(self, fewest: int, seconds: float) -> None:
        self._fewest, self._seconds = fewest, seconds
        self.size = fewest

    def took(self, contents: int, seconds: float) -> None:
        """A wave of so many contents took so many seconds, its commit included."""
        fitting = int(self._seconds * contents / seconds) if seconds > 0 else MOST
        self.size = max(self._fewest, min(fitting, _GROWTH * self.size, MOST)) if self._seconds else self._fewest
