"""Progress on standard error: one bar for what is going on now."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Never

from tqdm import tqdm


class Bars:
    """Callable as a StageProgress; use as a context manager so that the last bar is closed."""

    def __init__(self) -> None:
        self._bar: tqdm[Never] | None = None
        self._name = ""

    def __call__(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `name` are over."""
        bar = self._bar
        if bar is None or name != self._name or total != bar.total:
            self._close()
            self._bar = bar = tqdm(total=total, desc=name, file=sys.stderr, mininterval=0.5, dynamic_ncols=True)
            self._name = name
        bar.update(done - bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
