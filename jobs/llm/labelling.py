"""Labelling by LLM: the prompt, the answer's schema, and what an answer must prove before it counts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from jobs.conversation import Conversation
from jobs.errors import InputError
from jobs.llm.answers import BadAnswerError, LabelAnswer, parse_answer
from jobs.llm.confidence import tag_confidence
from jobs.llm.exchange import Asks, Failure
from jobs.llm.profiles import ServingProfile
from jobs.llm.rendering import Rendered, estimate_tokens, passages, render
from jobs.settings import PROJECT
from jobs.taxonomy import Tag, Taxonomy

PROMPTS = PROJECT / "prompts"
_MOST_TAGS = 12
_TURNS_A_TAG = 3
_MOST_PASSAGES = 64
_FORM_TOKENS = 32
_MARGIN_TOKENS = 64


def answer_key(content_hash: str, tag_definition_hash: str, prompt_hash: str, model: str) -> str:
    """SHA-256 that says whether (conversation, tag) must be asked again: content, definition, prompt and model."""
    body = "\x1f".join((content_hash, tag_definition_hash, prompt_hash, model))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


class LabelPrompt:
    """The labelling prompt of one taxonomy (or of some of its tags) for one serving profile.

    `language` defaults to the taxonomy's; there are `prompts/label.zh.md` and `prompts/label.en.md` (any other
    language is asked in English). The system message is the same to the byte for every conversation.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        profile: ServingProfile,
        language: str | None = None,
        tags: Sequence[str] | None = None,
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

    def render(self, conversation: Conversation) -> Rendered:
        """The conversation as the last message shows it, cut to the context that is left."""
        return render(conversation, self.language, self.budget, self.profile.tokens_per_wide_char)

    def messages(self, rendered: Rendered) -> list[dict[str, str]]:
        """Chat messages: the unchanging rules and tags first, the conversation last."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": rendered.text}]

    def schema(self, conversation: Conversation) -> dict[str, Any]:
        """JSON Schema of an answer: at most `max_tags` tags with turns and a quote, and `cannot_tell`.

        The same for every conversation, unless the profile says `quotes: choose`.
        """
        turns: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9999}
        quote: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": self.quote_chars}
        offered = passages(conversation, self.quote_chars, _MOST_PASSAGES)
        if self.profile.quotes == "choose" and offered:
            turns = {"enum": [number for number, _ in conversation.customer_turns]}
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
    """What became of one conversation: an answer, or a failure that says why there is none.

    `confidence` maps answered tags to a probability where the server tells it; `cut`: the model did not see all text.
    """

    conversation_id: str
    content_hash: str
    answer: LabelAnswer | None
    failure: Failure | None
    attempts: int
    confidence: dict[str, float]
    cut: bool


async def _label(client: Asks, prompt: LabelPrompt, conversation: Conversation) -> LabelOutcome:
    if not conversation.customer_turns:
        nothing = LabelAnswer((), cannot_tell=False)
        return LabelOutcome(conversation.conversation_id, conversation.content_hash, nothing, None, 0, {}, False)
    rendered = prompt.render(conversation)

    def parse(text: str) -> LabelAnswer:
        return parse_answer(text, conversation, prompt.tag_ids)

    result = await client.ask(prompt.messages(rendered), prompt.schema(conversation), "labels", parse)
    return LabelOutcome(
        conversation.conversation_id,
        conversation.content_hash,
        result.value,
        result.failure,
        result.attempts,
        tag_confidence(result.text, result.token_logprobs) if result.value is not None else {},
        rendered.cut,
    )


async def label_conversations(
    client: Asks,
    prompt: LabelPrompt,
    conversations: Sequence[Conversation],
    progress: Callable[[int, int], None] | None = None,
) -> list[LabelOutcome]:
    """Label conversations, in their order; the client bounds how many are in flight.

    `progress` is called with (done, all) after each. One bad answer or a dead server never raises: see `failure`.
    """
    done = 0

    async def one(conversation: Conversation) -> LabelOutcome:
        nonlocal done
        outcome = await _label(client, prompt, conversation)
        done += 1
        if progress is not None:
            progress(done, len(conversations))
        return outcome

    return list(await asyncio.gather(*(one(conversation) for conversation in conversations)))


__all__ = [
    "BadAnswerError",
    "LabelAnswer",
    "LabelOutcome",
    "LabelPrompt",
    "answer_key",
    "label_conversations",
    "parse_answer",
]
