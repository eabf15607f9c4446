"""The folder that a command writes to."""

from __future__ import annotations

from pathlib import Path

from jobs.errors import InputError


def made(out: Path) -> Path:
    """Make the folder where it is missing; called before the work, which may take hours and money.

    Raises:
        InputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error
    return out
