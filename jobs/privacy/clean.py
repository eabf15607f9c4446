"""Characters that a chat cannot mean: control codes, bidirectional overrides, lone surrogates."""

from __future__ import annotations

import re

# Bidirectional overrides can make a page show something else than what it says (CVE-2021-42574).
_UNWANTED = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Drop control characters and put U+FFFD for lone surrogates; emoji, joiners, tabs and line ends stay."""
    return _SURROGATE.sub("�", _UNWANTED.sub("", text))
