"""Keyed pseudonyms: the same id gives the same key on every night, and nobody without the secret can go back."""

from __future__ import annotations

import hashlib
import hmac
import re

from jobs.errors import InputError
from jobs.settings import Settings

PHONE_ID = "phone"
CONVERSATION_ID = "conversation"


def pseudonym_secret(settings: Settings) -> bytes:
    """The secret that keys the pseudonyms.

    Raises:
        InputError: none is set; a default would make every deployment's pseudonyms guessable.
    """
    if settings.privacy.pseudonym_key is None or not settings.privacy.pseudonym_key.get_secret_value():
        raise InputError(
            "no pseudonym key: set DONGCHA_PRIVACY__PSEUDONYM_KEY to a long random secret and keep it, "
            "customers get new ids when it changes"
        )
    return settings.privacy.pseudonym_key.get_secret_value().encode()


def pseudonym(secret: bytes, id_type: str, value: str) -> str:
    """HMAC-SHA256 of `type:value`, 128 bits in hexadecimal (RFC 2104); phone numbers are compared by their digits."""
    if id_type == PHONE_ID:
        value = re.sub(r"^(?:00)?86(?=1[3-9][0-9]{9}$)", "", re.sub(r"[^0-9]", "", value)) or value
    return hmac.new(secret, f"{id_type}:{value}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]
