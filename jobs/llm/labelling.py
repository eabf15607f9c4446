"""Labelling by LLM: the prompt, the answer's schema, and what an answer must prove before it counts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from jobs.conversation import Conversation, Spoken
from jobs.errors import InputError
from jobs.llm.answers import BadAnswerError, Evidence, LabelAnswer, TagAnswer, parse_answer
from jobs.llm.confidence import tag_confidence
from jobs.llm.exchange import Asks, Failure
from jobs.llm.merging import merge_evidence
from jobs.llm.profiles import ServingProfile
from jobs.llm.rendering import estimate_tokens, passages
from jobs.llm.windows import Shape, Window, window_size, windows
from jobs.settings import PROJECT, LabelSettings
from jobs.taxonomy import Tag, Taxonomy

PROMPTS = PROJECT / "prompts"
_MOST_TAGS = 12
_TURNS_A_TAG = 3
_MOST_PASSAGES = 64
_FORM_TOKENS = 32
_MARGIN_TOKENS = 64
_OVERLAP = LabelSettings().window_overlap


def answer_key(content_hash: str, tag_definition_hash: str, prompt_hash: str, model: str) -> str:
    """SHA-256 that says whether (conversation, tag) must be asked again: content, definition, prompt and model."""
    body = "\x1f".join((content_hash, tag_definition_hash, prompt_hash, model))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


class LabelPrompt:
    """The labelling prompt of one taxonomy (or of some of its tags) for one serving profile.

    `language` defaults to the taxonomy's; there are `prompts/label.zh.md` and `prompts/label.en.md` (any other
    language is asked in English). The system message is the same to the byte for every conversation. `overlap`: how
    many turns two windows of a long conversation have in common (`label.window_overlap`).
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        profile: ServingProfile,
        language: str | None = None,
        tags: Sequence[str] | None = None,
        overlap: int = _OVERLAP,
    ) -> None:
        wanted = taxonomy.tag_ids if tags is None else tuple(tags)
        if not wanted:
            raise InputError(f"taxonomy {taxonomy.name} has no tag to label with")
        self.tag_ids = wanted
        self.language = "zh" if (language or taxonomy.language).startswith("zh") else "en"
        self.profile = profile
        self._borders = taxonomy.borders if profile.taxonomy_detail == "full" else ()
        self._template = (PROMPTS / f"label.{self.language}.md").read_text(encoding="utf-8")
        self.system = self._render([taxonomy.tag(tag_id) for tag_id in wanted])
        self.quote_chars = 12 if profile.taxonomy_detail == "brief" else 30
        each = _FORM_TOKENS + math.ceil(self.quote_chars * profile.tokens_per_wide_char)
        self.max_tags = max(1, min(_MOST_TAGS, len(wanted), (profile.max_output_tokens - 16) // each))
        prompt_tokens = estimate_tokens(self.system, profile.tokens_per_wide_char) + _MARGIN_TOKENS
        self.budget = profile.context_length - profile.max_output_tokens - prompt_tokens
        if self.budget < 64:
            raise InputError(
                f"the labelling prompt of {len(wanted)} tags leaves no room for a conversation in profile "
                f"{profile.name} (context {profile.context_length}): use fewer tags, or a profile with more context"
            )
        size = window_size(self.budget, profile.context_length)
        self._shape = Shape(self.language, self.budget, size, overlap, profile.tokens_per_wide_char)

    def _render(self, tags: list[Tag]) -> str:
        environment = SandboxedEnvironment(undefined=StrictUndefined)
        template = environment.from_string(self._template)
        return template.render(tags=tags, borders=self._borders, detail=self.profile.taxonomy_detail).strip()

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of what is asked apart from the tags: template, detail, borders, and the answer's form.

        Tags count by their own definition hash in `answer_key`: a new definition asks again for that tag alone.
        """
        form: list[Any] = [self._template, self.profile.taxonomy_detail, self._borders, self.profile.quotes]
        form += [self.quote_chars, self.max_tags]
        return hashlib.sha256(json.dumps(form, ensure_ascii=False).encode()).hexdigest()

    def windows(self, conversation: Conversation) -> tuple[Window, ...]:
        """The conversation as the last message shows it; where it is longer than the context, several that overlap."""
        return windows(conversation, self._shape)

    def messages(self, window: Window) -> list[dict[str, str]]:
        """Chat messages: the unchanging rules and tags first, the conversation last."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": window.text}]

    def schema(self, spoken: Spoken) -> dict[str, Any]:
        """JSON Schema of an answer: at most `max_tags` tags with turns and a quote, and `cannot_tell`.

        The same for every conversation, unless the profile says `quotes: choose`. A copied quote has no length in it:
        a server that counts characters looks at every piece of its vocabulary anew with each, which costs fifty
        times the rest of the grammar (docs/benchmarks.md). The prompt asks for a short one.
        """
        turns: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9999}
        quote: dict[str, Any] = {"type": "string"}
        offered = passages(spoken, self.quote_chars, _MOST_PASSAGES)
        if self.profile.quotes == "choose" and offered:
            turns = {"enum": [number for number, _ in spoken.customer_turns]}
            quote = {"type": "string", "enum": list(offered)}
        tag = {
            "type": "object",
            "properties": {
                "tag": {"type": "string", "enum": list(self.tag_ids)},
                "turns": {
                    "type": "array",
                    "items": turns,
                    "minItems": 1,
                    "maxItems": 1 if self.profile.quotes == "choose" else _TURNS_A_TAG,
                },
                "quote": quote,
            },
            "required": ["tag", "turns", "quote"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {
                "tags": {"type": "array", "items": tag, "maxItems": self.max_tags},
                "cannot_tell": {"type": "boolean"},
            },
            "required": ["tags", "cannot_tell"],
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What became of one conversation, or of a window of it: an answer, or a failure that says why there is none.

    `confidence` maps answered tags to a probability where the server tells it; `cut`: the model did not see all text.
    `reply` is the last answer that did not count.
    """

    conversation_id: str
    content_hash: str
    answer: LabelAnswer | None
    failure: Failure | None
    attempts: int
    confidence: dict[str, float]
    cut: bool
    reply: str = ""


async def _label(client: Asks, prompt: LabelPrompt, window: Window) -> LabelOutcome:
    if not window.customer_turns:
        nothing = LabelAnswer((), cannot_tell=False)
        return LabelOutcome(window.conversation_id, window.content_hash, nothing, None, 0, {}, False)

    def parse(text: str) -> LabelAnswer:
        return parse_answer(text, window, prompt.tag_ids, prompt.quote_chars)

    result = await client.ask(prompt.messages(window), prompt.schema(window), "labels", parse)
    return LabelOutcome(
        window.conversation_id,
        window.content_hash,
        result.value,
        result.failure,
        result.attempts,
        tag_confidence(result.text, result.token_logprobs) if result.value is not None else {},
        window.cut,
        "" if result.value is not None else result.text,
    )


async def label_windows(
    client: Asks,
    prompt: LabelPrompt,
    some: Sequence[Window],
    progress: Callable[[int, int], None] | None = None,
) -> list[LabelOutcome]:
    """Label windows, in their order; the client bounds how many are in flight.

    `progress` is called with (done, all) after each. One bad answer or a dead server never raises: see `failure`.
    """
    done = 0

    async def one(window: Window) -> LabelOutcome:
        nonlocal done
        outcome = await _label(client, prompt, window)
        done += 1
        if progress is not None:
            progress(done, len(some))
        return outcome

    return list(await asyncio.gather(*(one(window) for window in some)))


def _whole(conversation: Conversation, parts: Sequence[LabelOutcome]) -> LabelOutcome:
    """The windows' outcomes as their conversation's. It has an answer when all windows have; see `merge_evidence`."""
    found: dict[str, list[Evidence]] = {}
    for tag in (tag for part in parts if part.answer for tag in part.answer.tags):
        found.setdefault(tag.tag, []).extend(tag.evidence)
    tags = tuple(TagAnswer(tag, merge_evidence(evidence)) for tag, evidence in found.items())
    doubt = not tags and any(part.answer.cannot_tell for part in parts if part.answer)
    failure = next((part.failure for part in parts if part.answer is None), None)
    whole = all(part.answer is not None for part in parts)
    confidence: dict[str, float] = {}
    for tag_id, value in (item for part in parts for item in part.confidence.items()):
        confidence[tag_id] = max(value, confidence.get(tag_id, 0.0))
    return LabelOutcome(
        conversation.conversation_id,
        conversation.content_hash,
        LabelAnswer(tags, cannot_tell=doubt) if whole else None,
        failure,
        sum(part.attempts for part in parts),
        confidence if whole else {},
        any(part.cut for part in parts),
    )


async def label_conversations(
    client: Asks,
    prompt: LabelPrompt,
    conversations: Sequence[Conversation],
    progress: Callable[[int, int], None] | None = None,
) -> list[LabelOutcome]:
    """Label conversations, in their order, long ones window by window; `progress` counts windows.

    As for `label_windows`, nothing that goes wrong with one of them raises.
    """
    parts = [prompt.windows(conversation) for conversation in conversations]
    outcomes = iter(await label_windows(client, prompt, [window for some in parts for window in some], progress))
    both = zip(conversations, parts, strict=True)
    return [_whole(conversation, list(islice(outcomes, len(some)))) for conversation, some in both]


__all__ = [
    "BadAnswerError",
    "LabelAnswer",
    "LabelOutcome",
    "LabelPrompt",
    "answer_key",
    "label_conversations",
    "label_windows",
    "parse_answer",
]
