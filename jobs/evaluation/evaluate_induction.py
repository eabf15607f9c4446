"""`evaluate-induction`: induce tags without gold, write them down, and only then compare with the gold."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.conversation import Conversation, read_conversations
from jobs.errors import InputError, ServerError
from jobs.evaluation.folder import made
from jobs.evaluation.induction_baseline import YARDSTICKS, Yardstick
from jobs.evaluation.induction_metrics import InductionScores, score_induction
from jobs.evaluation.progress import Bars
from jobs.induction.asking import Asker, asker_of, step_lines
from jobs.induction.critic import critic_yaml
from jobs.induction.induce import Induced, induce
from jobs.llm.server import server_status
from jobs.privacy.redact import redact_conversation
from jobs.settings import EmbeddingSettings, Settings
from jobs.students import induction_embedder
from jobs.taxonomy import dump_taxonomy

FIGURES, ASSIGNMENTS, TAXONOMY, STEPS, CRITIC = (
    "induction.json",
    "assignments.jsonl",
    "taxonomy.yaml",
    "llm_steps.jsonl",
    "critic.yaml",
)
RECOVERY = "recovery.json", "recovery.md"
"""What `recovery` makes of them: figures and a page."""


def gold_by_turn(conversations: Sequence[Conversation]) -> dict[tuple[str, int], tuple[str, ...]]:
    """Gold labels of each customer turn, keyed by (conversation_id, turn).

    They are `turn_labels`; a conversation of a single customer turn may give them as `labels` instead.
    """
    gold: dict[tuple[str, int], tuple[str, ...]] = {}
    for conversation in conversations:
        numbers = [number for number, _ in conversation.customer_turns]
        if conversation.turn_labels is not None:
            for number in numbers:
                gold[conversation.conversation_id, number] = conversation.turn_labels[number]
        elif len(numbers) == 1 and conversation.labels:
            gold[conversation.conversation_id, numbers[0]] = conversation.labels
    return gold


def _bare(path: Path) -> list[Conversation]:
    """Conversations as induction may see them: redacted, without gold."""
    return [replace(redact_conversation(c), labels=None, turn_labels=None) for c in read_conversations(path)]


def _asker(settings: Settings) -> Asker:
    """Raises ServerError where the settings' LLM server is not up."""
    status = server_status(settings)
    if status.state != "up":
        raise ServerError(
            f"no LLM server at {status.base_url} ({status.detail}): "
            "run `python -m jobs serve up` first, or use --no-llm"
        )
    return asker_of(settings)


def _write(out: Path, induced: Induced) -> None:
    for name in (FIGURES, STEPS, CRITIC, *RECOVERY):
        (out / name).unlink(missing_ok=True)
    (out / TAXONOMY).write_text(dump_taxonomy(induced.taxonomy), encoding="utf-8")
    with (out / ASSIGNMENTS).open("w", encoding="utf-8") as lines:
        for entry in induced.assignments:
            line = {"conversation_id": entry.conversation_id, "turn": entry.turn, "tag": entry.tag}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    if induced.steps:
        (out / STEPS).write_text(step_lines(induced.steps), encoding="utf-8")
    if induced.critic:
        (out / CRITIC).write_text(critic_yaml(induced.critic, induced.taxonomy), encoding="utf-8")


def _score(induced: Induced, labelled: Sequence[Conversation]) -> InductionScores | None:
    gold = gold_by_turn(labelled)
    references = [gold.get((entry.conversation_id, entry.turn), ()) for entry in induced.assignments]
    return score_induction([entry.tag for entry in induced.assignments], references)


def _induce(
    bare: Sequence[Conversation],
    held: Sequence[Conversation],
    name: str,
    *,
    asker: Asker | None,
    yardstick: Yardstick | None,
    settings: Settings,
) -> Induced:
    if yardstick:  # it stays the same whatever model the recipe reads through
        settings = settings.model_copy(update={"embeddings": EmbeddingSettings()})
    embedder, seed = induction_embedder(settings), settings.sample.seed
    with Bars() as bars:
        if yardstick:
            return YARDSTICKS[yardstick](bare, seed=seed, embedder=embedder, name=name, progress=bars)
        return induce(
            bare,
            seed=seed,
            embedder=embedder,
            asker=asker,
            bounds=settings.induce,
            held_out=held,
            name=name,
            progress=bars,
        )


def evaluate_induction(
    input_file: Path,
    out: Path,
    *,
    use_llm: bool,
    settings: Settings,
    yardstick: Yardstick | None = None,
    asker: Asker | None = None,
    held_out: Path | None = None,
) -> dict[str, Any]:
    """Induce tags from INPUT's customer turns and assign every one of them; with gold, compare.

    Under `out`: `taxonomy.yaml`, `assignments.jsonl` (every customer turn), `induction.json` where INPUT has gold per
    turn, `llm_steps.jsonl` where the LLM was asked, `critic.yaml` where conversations are `held_out` to try the
    definitions on. Gold is taken off before induction sees the conversations, and read again once the assignments are
    written. `yardstick` instead of our own recipe: one of those that anybody would start with, on e5 and without LLM.
    `asker`: who is asked instead of the LLM of the settings.

    Returns:
        What `induction.json` holds; without gold only `tags_found`, `turns`, `seconds` and the LLM's share.

    Raises:
        InputError: INPUT cannot be used, or `out` cannot be written.
        ServerError: the LLM is wanted and does not answer.
    """
    began = time.monotonic()
    bare, held = _bare(input_file), _bare(held_out) if held_out else []
    made(out)
    asker = asker or (_asker(settings) if use_llm and not yardstick else None)
    induced = _induce(bare, held, input_file.stem, asker=asker, yardstick=yardstick, settings=settings)
    try:
        _write(out, induced)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error
    scores = _score(induced, read_conversations(input_file))
    figures: dict[str, Any] = {"tags_found": len(induced.taxonomy.tags), "turns": len(induced.assignments)}
    if scores is not None:
        figures = scores.to_dict() | {"tags_proposed": len(induced.taxonomy.tags)}
    figures["topics"] = len(induced.taxonomy.topics)
    if asker is not None:
        figures |= {"named_by_llm": induced.named_by_llm, "named_by_wish": induced.named_by_wish}
    if induced.critic is not None:
        figures |= {"held_out_turns": induced.critic.turns, "held_out_agreed": induced.critic.agreed}
        figures["confusable_pairs"] = len(induced.critic.confusions)
    figures["seconds"] = round(time.monotonic() - began, 2)
    if scores is not None:
        (out / FIGURES).write_text(json.dumps(figures, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return figures
