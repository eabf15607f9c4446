"""What the windows of one conversation say about a tag, put together.

A tag is present when any window says so: windows are read apart, and none can take back what the customer said in
another. Its evidence is that of all windows. Its confidence is the surest window's: windows that overlap share text, so
1 - (1 - p)(1 - q) … would count the same words twice. In doubt is a conversation where nobody saw the tag and some
window could not tell.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.llm.answers import Evidence


def merge_evidence(found: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """All of it once, in the order of the turns; what two windows saw in their overlap is one."""
    return tuple(sorted(dict.fromkeys(found), key=lambda evidence: evidence.turn))
