"""A judge made of gold that errs on purpose: how good would induction be with an LLM that is right so often?

Not an LLM and no measurement of one. It answers the questions that induction would ask: names are keywords of
the group; two groups are one wish where most of the messages shown of each bear the same gold tag, and the other way
round with the given probability.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.evaluation.evaluate_induction import gold_by_turn
from jobs.induction.asking import Answer, Asker, Question, shown_text
from jobs.induction.words import HAN
from jobs.llm.answers import BadAnswerError
from jobs.student.training import StageProgress

T = TypeVar("T")

_SIDES = re.compile(r"^# (?:Group [AB]:|[AB] 组：)(.*?)(?=^# |\Z)", re.MULTILINE | re.DOTALL)
_KEYWORDS = re.compile(r"^# (?:The group to name|要命名的组)[:：](.*)$", re.MULTILINE)


def tags_by_text(conversations: Sequence[Conversation]) -> dict[str, str]:
    """Gold tag of each customer turn, by the text as prompts show it; the first one where a text has several."""
    gold = gold_by_turn(conversations)
    found: dict[str, str] = {}
    for conversation in conversations:
        for number, text in conversation.customer_turns:
            for tag in gold.get((conversation.conversation_id, number), ())[:1]:
                found.setdefault(shown_text(text), tag)
    return found


@dataclass(slots=True)
class SimulatedJudge(Asker):
    """Asks nobody. `gold`: see `tags_by_text`; `error`: the share of verdicts that are turned round."""

    gold: Mapping[str, str] = field(default_factory=dict)
    error: float = 0.0
    seed: int = 17

    def ask(
        self,
        step: str,
        questions: Sequence[Question[T]],
        schema: dict[str, Any] | None,
        max_tokens: int,
        progress: StageProgress | None = None,
    ) -> list[Answer[T]]:
        """An answer a question, checked as an LLM's would be.

        Raises:
            InputError: the step is neither naming nor judging.
        """
        if not questions:
            return []
        if step not in ("name", "pair"):
            raise InputError(f"the simulated judge names and judges; it cannot do the step {step!r}")
        reply = self._name if step == "name" else self._verdict
        found: list[Answer[T]] = []
        for question in questions:
            record: dict[str, Any] = {"step": step, "about": question.about, "model": "simulated"}
            record |= {"prompt": question.prompt, "accepted": True, "reason": ""}
            try:
                found.append(Answer(question.parse(json.dumps(reply(question.prompt))), record))
            except BadAnswerError as error:
                found.append(Answer(None, record | {"accepted": False, "reason": str(error)}))
        self.steps += [answer.step for answer in found]
        return found

    def _name(self, prompt: str) -> dict[str, Any]:
        """The longest of the keywords, with a mark of its own: checks of names are not what is simulated."""
        line = _KEYWORDS.search(prompt)
        words = [word.strip() for word in re.split("[,，、]", line.group(1))] if line else [""]
        word, mark = max(words[:4], key=len), chr(ord("a") + len(self.steps) % 26)
        chinese = bool(HAN.search(word))
        name = f"{word}{mark}" if chinese else f"{word} {mark}"
        definition = f"客户提到{word}（{mark}）。" if chinese else f"The customer speaks of {word} ({mark})."
        return {"name": name, "definition": definition, "include": [], "exclude": [], "examples": [], "id": "simulated"}

    def _verdict(self, prompt: str) -> dict[str, Any]:
        sides = [self._tag(side) for side in _SIDES.findall(prompt)]
        if len(sides) != 2:
            raise InputError("the prompt induce_pair has changed: the simulated judge finds no two groups in it")
        rng = np.random.default_rng([self.seed, *prompt.encode()])
        same = (sides[0] == sides[1]) != bool(rng.random() < self.error)
        return {"a_wants": "", "b_wants": "", "verdict": "one" if same else "two"}

    def _tag(self, side: str) -> str | None:
        shown = (line[2:].strip() for line in side.splitlines() if line.startswith("- "))
        tags = Counter(self.gold[text] for text in shown if text in self.gold)
        return tags.most_common(1)[0][0] if tags else None
