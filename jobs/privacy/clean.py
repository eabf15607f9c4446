"""Characters that a chat cannot mean: control codes, bidirectional overrides, what has no width, lone surrogates."""

from __future__ import annotations

import re

# Bidirectional overrides can make a page show something else than what it says (CVE-2021-42574).
# What has no width hides a number from whoever looks for one; joiners make emoji, but mean nothing behind a digit.
_UNWANTED = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u180e\\u200b\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u2069\\ufeff]"
    "|(?<=[0-9])[\\u200c-\\u200f]+"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Drop characters of control and without width, put U+FFFD for lone surrogates; emoji, tabs and line ends stay."""
    return _SURROGATE.sub("�", _UNWANTED.sub("", text))
