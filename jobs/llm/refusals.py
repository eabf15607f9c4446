"""What an HTTP status that is no answer says: something about this one request, or about all of them."""

from __future__ import annotations

ABOUT_ONE_REQUEST = frozenset({400, 413, 422})
"""Malformed, too large, or with content the server does not take: another request may fare better."""
REFUSED_TO_ALL = (
    "HTTP 400, 413 or 422 for every one: are the key and the model's name right, and does the server take what the "
    "serving profile asks for (context_length, structured)?"
)
"""What to look at where a server says of each request that it is at fault, and takes none."""
_LOOK_AT = {
    401: "is the key there, right and still valid?",
    402: "is the account's balance used up?",
    403: "may this key use this model?",
    404: "are the address and the model's name right, is the model still served?",
    429: "too many requests, or is a quota used up?",
}


def in_words(status: int) -> str:
    """A status, and of one that no retry will mend what a person should look at."""
    otherwise = "look at the key, the account's balance, the model's name" if 400 <= status < 500 else ""
    look_at = "" if status in ABOUT_ONE_REQUEST | {408, 409} else _LOOK_AT.get(status, otherwise)
    return f"HTTP {status}: {look_at}" if look_at else f"HTTP {status}"
