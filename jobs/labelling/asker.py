"""A Spark task that asks the LLM: windows in, a row for each window and tag out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa

from jobs.arrow_tasks import ArrowTask
from jobs.labelling.questions import UNUSABLE
from jobs.labelling.windows import wanted_windows
from jobs.llm.client import FailureKind, LlmClient, LlmUsage
from jobs.llm.labelling import LabelOutcome, LabelPrompt, label_windows
from jobs.llm.offline import OfflineClient, OfflineFolder
from jobs.llm.windows import Window
from jobs.privacy.clean import clean
from jobs.privacy.redact import redact
from jobs.settings import LlmSettings

COUNTS = ("requests", "prompt_tokens", "cached_tokens", "output_tokens")
LONGEST_REPLY = 2000
"""Characters of a bad answer that are kept."""
_EVIDENCE = pa.list_(pa.struct([("turn", pa.int32()), ("quote", pa.string())]))
ANSWERS = pa.schema(
    [
        ("content_hash", pa.string()),
        ("tag_id", pa.string()),
        ("verdict", pa.string()),
        ("confidence", pa.float64()),
        ("evidence", _EVIDENCE),
        ("failure", pa.string()),
        ("reason", pa.string()),
        ("reply", pa.string()),
        ("attempts", pa.int32()),
        ("conversation_hash", pa.string()),
        ("first_turn", pa.int32()),
        ("last_turn", pa.int32()),
        *((name, pa.int64()) for name in COUNTS),
    ]
)


def _failed(outcome: LabelOutcome, window: Window) -> dict[str, object]:
    """What all tags of a window have in common that got no usable answer.

    Only what the model or the server said to this very request is kept as a dead letter; a server that is down, or
    refuses everything, says nothing about it.
    """
    kind = outcome.failure.kind if outcome.failure else FailureKind.BAD_ANSWER
    if outcome.failure and kind not in (FailureKind.BAD_ANSWER, FailureKind.REJECTED):
        return {"verdict": None, "failure": str(kind), "reason": outcome.failure.detail}
    reason = (outcome.failure.reason if outcome.failure else None) or str(kind)
    return {
        "verdict": UNUSABLE,
        "failure": str(kind),
        "reason": reason,
        # The chat is redacted, but a model may make up what looks like personal data. Redact first: a cut number is
        # no longer known for one.
        "reply": redact(clean(outcome.reply))[0][:LONGEST_REPLY],
        "attempts": outcome.attempts,
        "conversation_hash": window.conversation_id,
        "first_turn": window.first_turn,
        "last_turn": window.last_turn,
    }


def _rows(outcome: LabelOutcome, window: Window, tag_ids: Sequence[str]) -> Iterator[dict[str, object]]:
    base: dict[str, object] = dict.fromkeys(COUNTS, 0)
    base |= {"content_hash": outcome.content_hash, "evidence": []}
    if outcome.answer is None:
        base |= _failed(outcome, window)
        for tag_id in tag_ids:
            yield base | {"tag_id": tag_id}
        return
    present = {tag.tag: tag.evidence for tag in outcome.answer.tags}
    otherwise = "cannot_tell" if outcome.answer.cannot_tell else "absent"
    for tag_id in tag_ids:
        found = present.get(tag_id)
        yield base | {
            "tag_id": tag_id,
            "verdict": "present" if found else otherwise,
            "confidence": outcome.confidence.get(tag_id),
            "evidence": [{"turn": e.turn, "quote": e.quote} for e in found or ()],
        }


def asker(prompt: LabelPrompt, llm: LlmSettings, offline: OfflineFolder | None) -> ArrowTask:
    """For mapInArrow: rows of `with_texts` become rows of `ANSWERS`; `verdict` is null where nobody could be asked.

    `offline`: where requests and answers lie as files, None for a server.
    """

    async def ask_all(some: list[Window], failures: int) -> tuple[list[LabelOutcome], LlmUsage]:
        if offline is not None:
            # The answers of earlier tries lie in the same folder: a question asked anew is another request.
            done = failures * (llm.retries + 1)
            async with OfflineClient(prompt.profile, offline, llm.retries, done) as files:
                return await label_windows(files, prompt, some), files.usage
        async with LlmClient(prompt.profile, llm) as client:
            return await label_windows(client, prompt, some), client.usage

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts: dict[int, list[Window]] = {}
        for batch in batches:
            for row in batch.to_pylist():
                for window, failures in wanted_windows(row, prompt):
                    parts.setdefault(failures if offline is not None else 0, []).append(window)
        for failures, some in parts.items():
            outcomes, usage = asyncio.run(ask_all(some, failures))
            both = zip(outcomes, some, strict=True)
            rows = [row for outcome, window in both for row in _rows(outcome, window, prompt.tag_ids)]
            # What was sent and got for all of them travels with the first row.
            rows[0] |= {name: asdict(usage)[name] for name in COUNTS}
            yield pa.RecordBatch.from_pylist(rows, schema=ANSWERS)

    return ask
