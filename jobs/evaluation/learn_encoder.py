"""`learn-encoder`: labelled conversations of any business teach the sentence model which turns are one wish."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.conversation import read_conversations
from jobs.errors import InputError
from jobs.evaluation.evaluate_induction import gold_by_turn
from jobs.privacy.redact import redact_conversation
from jobs.settings import Settings
from jobs.student.contrast import STEPS, learn_encoder, worth_learning
from jobs.student.embed import Progress
from jobs.student.endpoint import ENCODER


@dataclass(frozen=True, slots=True)
class Learned:
    """From how many files, tags and different turns the encoder learned."""

    files: int
    tags: int
    turns: int


def tags_of_file(path: Path, no_tag: Collection[str] = ()) -> dict[str, list[str]]:
    """Gold → texts of the customer turns that have it, redacted; several tags of one turn count as one of their own.

    Raises:
        InputError: the file has a bad line.
    """
    chats = [redact_conversation(chat) for chat in read_conversations(path)]
    gold = gold_by_turn(chats)
    found: dict[str, list[str]] = defaultdict(list)
    for chat in chats:
        for number, text in chat.customer_turns:
            tags = sorted(set(gold.get((chat.conversation_id, number), ())) - set(no_tag))
            if tags:
                found["+".join(tags)].append(text)
    return found


def learn_encoder_from_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    settings: Settings,
    no_tag: Collection[str] = (),
    steps: int = STEPS,
    progress: Progress | None = None,
) -> Learned:
    """Learn from labelled files and write the encoder to `out`, to be named by `embeddings.induction_profile`.

    Args:
        inputs: labelled conversations with `turn_labels`, or of one customer turn each; one file is one taxonomy.
        out: the encoder's file, `NAME.onnx`.
        settings: seed, and where encoders are kept by content.
        no_tag: labels that stand for "no tag".
        steps: see `learn_encoder`.
        progress: called with (steps done, steps in all).

    Raises:
        InputError: `out` has another ending or cannot be written; a bad line; see `learn_encoder`.
    """
    if out.suffix != ENCODER:
        raise InputError(f"{out}: an encoder's file ends in {ENCODER}")
    sets = [tags_of_file(path, no_tag) for path in inputs]
    folder = settings.var_dir / "cache" / "encoders"
    learned = learn_encoder(sets, folder=folder, seed=settings.sample.seed, steps=steps, progress=progress)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f"{out.name}.part")
        shutil.copyfile(learned, part)
        part.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error
    used = [tags for one in sets if len(tags := worth_learning(one)) > 1]
    return Learned(len(used), sum(map(len, used)), sum(len(texts) for tags in used for texts in tags))
