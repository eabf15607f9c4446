"""A night of a table as a folder: it is replaced as a whole, and a run that was killed meanwhile leaves no trace.

What is not data yet, or no more, lies outside the tables' folders: Spark and pyarrow pass over names that begin with an
underscore, but whoever reads a table's folder by a pattern (`**/*.parquet`) does not.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ASIDE = "_aside"
"""Folder of the warehouse for what is no night of a table."""


def nights_aside(warehouse: Path, name: str) -> list[str]:
    """Nights of a table whose old files are not in their place, or were not a moment ago."""
    return [path.parent.name for path in (warehouse / ASIDE / name).glob("*/replaced")]


@dataclass(frozen=True, slots=True)
class NightFolder:
    """`place` is where readers look, `aside` where a run keeps what it has not finished."""

    place: Path
    aside: Path

    @classmethod
    def of(cls, warehouse: Path, name: str, ds: str) -> NightFolder:
        """That of night `ds` of a table."""
        return cls(warehouse / name / f"ds={ds}", warehouse / ASIDE / name / ds)

    @property
    def _old(self) -> Path:
        return self.aside / "replaced"

    @contextmanager
    def owned(self) -> Iterator[Path]:
        """The night for one run alone: whoever comes second waits. Gives a path, free yet, for the new files."""
        self.aside.mkdir(parents=True, exist_ok=True)
        with (self.aside / "lock").open("w") as lock:
            # The kernel takes the lock back from a process that is killed: what lies aside then belongs to nobody.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._clear()
            try:
                # Spark may go on for a while with what a killed run has begun: never at a path that another one uses.
                yield self.aside / f"staged-{uuid.uuid4().hex}"
            finally:
                self._clear()

    def replace(self, new: Path) -> None:
        """Put the folder `new` in its place; only while owned."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        if self.place.exists():
            self.place.rename(self._old)
        new.rename(self.place)

    def add(self, new: Path) -> None:
        """Put the files of the folder `new` beside those that are there; only while owned."""
        self.place.mkdir(parents=True, exist_ok=True)
        for file in sorted(new.iterdir(), key=lambda file: (file.name == "_SUCCESS", file.name)):
            file.rename(self.place / file.name)

    def put_right(self) -> None:
        """Where a run was killed between the two renames, the old night is in its place again."""
        if self._old.exists() and not self.place.exists():
            with self.owned():
                pass

    def _clear(self) -> None:
        if self._old.exists() and not self.place.exists():
            self._old.rename(self.place)
        for left in (self._old, *self.aside.glob("staged-*")):
            shutil.rmtree(left, ignore_errors=True)
