"""JSON Lines files that people hand in: what cannot be read is said with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.errors import InputError


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(`file:line`, decoded value) of every line of a UTF-8 file that is not blank.

    Raises:
        InputError: the file is missing, cannot be read or is not UTF-8, or a line is not JSON.
    """
    try:
        if not path.is_file():  # nor a pipe: some readers come back for a second look
            raise InputError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    value = json.loads(line)
                # An integer of thousands of digits is a plain ValueError, brackets in brackets a RecursionError.
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{where}: not JSON ({error}); one JSON object a line is expected") from error
                yield where, value
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}): convert the file, or unpack it, first") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
