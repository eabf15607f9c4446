"""What a conversation is about, without courtesies, and whether two are about it in nearly the same words.

Near copies are found by MinHash (Broder 1997, "On the resemblance and containment of documents"): the share of equal
entries in two signatures estimates the Jaccard similarity of the texts' sets of three-letter pieces. Entries are
banded (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4), so that texts that share nine in ten
pieces share a band nine times in ten, and texts that share half of them almost never.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jobs.induction.courtesy import core

BANDS, ROWS = 4, 8
MAX_CHARS = 2_000
"""So much of what a customer says is compared and embedded; wishes come early."""

PLACEHOLDER = r"[\[【〔<][^\[\]【】〔〕<>]{1,20}[\]】〕>]"
"""What redaction or an app put in the place of a name, a number or a picture; understood by Python and by Java."""

_PLACEHOLDER = re.compile(PLACEHOLDER)
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_PIECE = 3

Hashes = npt.NDArray[np.uint64]


def essence(texts: Sequence[str]) -> str:
    """What is left of a customer's turns without courtesies, one a line; empty where nothing is."""
    return "\n".join(rest for text in texts if (rest := core(_PLACEHOLDER.sub("", text))))[:MAX_CHARS]


def letters(text: str) -> str:
    """Only the letters, lower-cased: amounts, dates, names taken out and punctuation do not tell texts apart."""
    return _NOT_LETTERS.sub("", _PLACEHOLDER.sub("", text.lower()))


def _constants(count: int, salt: int) -> Hashes:
    """Odd 64-bit numbers, the same on every machine."""
    return np.random.default_rng(salt).integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


_PLACE, _TIMES, _PLUS, _JOIN = (_constants(n, i) for i, n in enumerate((_PIECE, BANDS * ROWS, BANDS * ROWS, ROWS)))


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input changes half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def signatures(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """(n, 32) MinHash signatures of `letters`; a text without letters has a row of zeros."""
    filled = [i for i, text in enumerate(texts) if text]
    found = np.zeros((len(texts), BANDS * ROWS), dtype=np.uint32)
    if not filled:
        return found
    lengths = np.array([len(texts[i]) for i in filled])
    # Padded to a piece, so that a text of one letter has one, and pieces that reach into the next text are skipped.
    padded = ("\0" * (_PIECE - 1)).join(texts[i] for i in filled) + "\0" * (_PIECE - 1)
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    last = len(codes) - _PIECE + 1
    pieces = _mixed(codes[:last] * _PLACE[0] + codes[1 : last + 1] * _PLACE[1] + codes[2:] * _PLACE[2])
    begins = np.concatenate([[0], np.cumsum(lengths + _PIECE - 1)[:-1]])
    inside = np.repeat(begins - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) + np.arange(lengths.sum())
    pieces, starts = pieces[inside], np.concatenate([[0], np.cumsum(lengths)[:-1]])
    for column in range(BANDS * ROWS):
        hashed = (pieces * _TIMES[column] + _PLUS[column]) >> np.uint64(32)
        found[filled, column] = np.minimum.reduceat(hashed, starts).astype(np.uint32)
    return found


def bands(found: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """(n, 4) hashes of the bands of signatures (n, 32); equal texts have equal bands."""
    parts = found.reshape(len(found), BANDS, ROWS).astype(np.uint64)
    joined = (parts * _JOIN).sum(axis=2, dtype=np.uint64) + np.arange(BANDS, dtype=np.uint64)
    return _mixed(joined).view(np.int64)


def alike(one: npt.NDArray[np.uint32], many: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """(n,) estimated Jaccard similarities of one signature (32,) with others (n, 32)."""
    return np.asarray((many == one).mean(axis=1))
