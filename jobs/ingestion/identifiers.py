"""What counts as an id, in chats, in gold and in the customer directory."""

from __future__ import annotations

from typing import Any

from jobs.privacy.clean import clean

_PLACEHOLDERS = frozenset(("null", "none", "nan", "n/a", "undefined"))


def checked_identifier(value: Any) -> str | None:
    """An id's text without the blanks around it; None for what is none.

    An id is a text or a whole number. What exports write for a missing one would make many strangers one.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return None if not clean(text).strip() or text.casefold() in _PLACEHOLDERS else text
