"""The LLM puts turns into wishes: what counts, when the model is found out, and what grouping makes of it."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from jobs.conversation import Conversation, Turn
from jobs.errors import ServerError
from jobs.evaluation.induction_metrics import score_induction
from jobs.induction.asking import Asker
from jobs.induction.features import FloatArray
from jobs.induction.groups import Group
from jobs.induction.hierarchy import leads_of
from jobs.induction.induce import Induced, induce
from jobs.induction.proposal import Naming, fallback_namings
from jobs.induction.revise import small_talk
from jobs.induction.turns import CustomerTurn, customer_turns
from jobs.induction.wishes import parse_wish, prompt_examples, share_found, with_wishes
from jobs.llm.answers import BadAnswerError
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.settings import InduceSettings, LlmSettings
from jobs.student.embed import Progress
from tests.fake_llm import FakeLlm, Reply, reply_status
from tests.test_induction_groups import WordsOnly

LLM = LlmSettings(retries=0, backoff_seconds=0.01, timeout_seconds=10)
MESSAGE = re.compile(r"^Message: (.*) ->\Z", re.MULTILINE)

# Four wishes, each said roundabout: what is spoken of has nothing to do with what is wanted.
WANTED = ("redeem fund", "open account", "complain about app", "ask about rate")
_DRAW = random.Random(5)
_THINGS = [a + b + c for a in "bdfgklmnprst" for b in ("al", "or", "ins", "ump") for c in ("ton", "er")]
WISH_OF = {" ".join(_DRAW.sample(_THINGS, 5)): WANTED[place % len(WANTED)] for place in range(128)}
VERBS_AND_THINGS = [
    (verb, thing)
    for verb in ("block", "close", "renew", "insure", "sell", "move", "check", "print")
    for thing in ("card", "loan", "pin", "fund", "house", "boat", "deposit", "statement")
]
VOCABULARY = {word: i for i, word in enumerate(sorted({w for text in [*WANTED, *WISH_OF] for w in text.split()}))}


class Inkling(WordsOnly):
    """Embeds by words, with an inkling of what a text is about, as a sentence model has."""

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        self.asked += len(texts)
        rows = np.zeros((len(texts), len(VOCABULARY) + len(WANTED)), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                if word in VOCABULARY:
                    row[VOCABULARY[word]] = 1.0
            said = next((message for message in WISH_OF if message in text), text)
            row[len(VOCABULARY) + WANTED.index(WISH_OF.get(said, said))] = 0.1
        return rows


def profile(url: str = "http://127.0.0.1:9/v1") -> ServingProfile:
    return read_profile(PROFILES / "endpoint.yaml").model_copy(update={"base_url": url})


def message_of(body: dict[str, Any]) -> str:
    found = MESSAGE.search(body["messages"][-1]["content"])
    assert found
    return found.group(1)


def turn(text: str, number: int = 0, **rest: Any) -> CustomerTurn:
    return CustomerTurn(f"c{number}", 0, text, text, True, **rest)


def talks() -> list[Conversation]:
    """Whole chats: greeting, one turn with a wish, thanks."""
    return [
        Conversation(
            f"c{i}",
            (Turn("customer", "hello"), Turn("agent", "Hi"), Turn("customer", text), Turn("customer", "thanks")),
            turn_labels=((), (), (wish,), ()),
        )
        for i, (text, wish) in enumerate(WISH_OF.items())
    ]


@pytest.mark.parametrize(
    ("answer", "language", "wish"),
    [
        (" 办理赎回。", "zh", "办理赎回"),
        ("“办理赎回”", "zh", "办理赎回"),
        ("无", "zh", ""),
        ("None.", "en", ""),
        ("change\n# Rules <|im_end|>", "en", "change # Rules ＜|im_end|＞"),
    ],
)
def test_a_wish_is_one_clean_line(answer: str, language: str, wish: str) -> None:
    assert parse_wish(answer, language) == wish


@pytest.mark.parametrize(
    ("answer", "language", "reason"),
    [
        ("", "zh", "schema"),
        (" ,. ", "en", "schema"),
        ("12", "en", "schema"),
        ("办理赎回" * 7, "zh", "schema"),
        ("I cannot know what this customer wants from so few words said", "en", "schema"),
        ("redeem fund", "zh", "language"),
        ("办理赎回", "en", "language"),
    ],
)
def test_what_is_no_wish_does_not_count(answer: str, language: str, reason: str) -> None:
    with pytest.raises(BadAnswerError) as caught:
        parse_wish(answer, language)
    assert caught.value.reason == reason


def test_a_message_comes_last_with_what_was_said_right_before_it() -> None:
    chat = Conversation(
        "c",
        (Turn("customer", "hi"), Turn("agent", "Yes?"), Turn("customer", "the app\n# Rules"), Turn("customer", "?!")),
    )
    with FakeLlm(Reply("none")) as fake:
        with_wishes(customer_turns([chat]), Asker(profile(fake.base_url), LLM), "en", WordsOnly().embed)
    form = {"structured_outputs", "response_format", "stop"}
    assert all({key: body[key] for key in form & set(body)} == {"stop": ["\n"]} for body in fake.requests), "one line"
    prompts = [body["messages"][0]["content"] for body in fake.requests]
    shown = next(p for p in prompts if p.endswith("Message: the app # Rules ->"))
    assert "Customer: hi\nAgent: Yes?\n" in shown and shown.count("\n# Rules") == 1
    assert len({p[: p.index("# Said before")] for p in prompts if "# Said before" in p}) == 1, (
        "one prefix for the cache"
    )


def test_wishes_that_say_nothing_find_no_message() -> None:
    rows = np.random.default_rng(1).normal(size=(48, 16)).astype(np.float32)
    assert share_found(rows, rows) == 1.0
    assert share_found(rows, np.roll(rows, 1, axis=0)) < 0.5
    assert share_found(np.ones_like(rows), rows) < 0.5, "one and the same for all is near to none"


def asked(script: Any, turns: list[CustomerTurn]) -> tuple[list[CustomerTurn], list[dict[str, Any]], int]:
    with FakeLlm(script) as fake:
        asker = Asker(profile(fake.base_url), LLM)
        return with_wishes(turns, asker, "en", WordsOnly().embed), asker.steps, len(fake.requests)


def test_each_turn_gets_its_wish_and_a_bad_answer_costs_one_turn() -> None:
    turns = [turn(f"please {verb} my {thing} now", i) for i, (verb, thing) in enumerate(VERBS_AND_THINGS)]

    def script(body: dict[str, Any]) -> Reply:
        words = message_of(body).split()
        return Reply("12") if words[3] == "pin" and words[1] == "close" else Reply(f"{words[1]} {words[3]}")

    found, steps, requests = asked(script, turns)
    assert requests == len(steps) == len(turns)
    assert [t.wish for t in found if t.wish is not None] == [
        f"{v} {t}" for v, t in VERBS_AND_THINGS if (v, t) != ("close", "pin")
    ]
    assert [step["accepted"] for step in steps].count(False) == 1
    assert all(t.wish is None for t in turns), "the turns that came in are as they were"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Reply("change room"), "say something about the message"),
        (Reply("?!"), "in the form asked for"),
        (Reply("none"), "in the form asked for"),
    ],
)
def test_a_model_that_cannot_do_it_is_not_asked_about_the_rest(script: Reply, reason: str) -> None:
    turns = [turn(f"please {verb} my {thing} now", i) for i, (verb, thing) in enumerate(VERBS_AND_THINGS)]
    found, steps, requests = asked(script, turns)
    assert found == turns and requests == len(steps) == 48
    assert all(not step["accepted"] and reason in step["reason"] for step in steps)


def test_too_few_wishes_to_try_the_model_on_do_not_count() -> None:
    turns = [turn(f"please sell my {thing} now", i) for i, thing in enumerate(("fund", "house", "boat"))]
    found, steps, _ = asked(lambda body: Reply(message_of(body)), turns)
    assert found == turns
    assert all(step["reason"].startswith("only 3 wishes to try the model on") for step in steps)


def test_a_server_that_answers_nothing_is_an_error() -> None:
    with pytest.raises(ServerError, match="answered nothing"):
        asked(reply_status(500), [turn("sell my fund")])


def induced_with(script: Any, *, held_out: Sequence[Conversation] = (), **bounds: Any) -> tuple[Induced, int]:
    """What is induced of `talks()`, and how many wishes were asked for."""
    with FakeLlm(script) as fake:
        found = induce(
            talks(),
            seed=17,
            embedder=Inkling(),
            asker=Asker(profile(fake.base_url), LLM),
            bounds=InduceSettings(pairs=0, topics=0, **bounds),
            held_out=held_out,
        )
        return found, sum("Message: " in body["messages"][0]["content"] for body in fake.requests)


def reader(body: dict[str, Any]) -> Reply:
    """Knows every wish, and names no group."""
    if not MESSAGE.search(body["messages"][-1]["content"]):
        return Reply("no name")
    return Reply(WISH_OF[message_of(body)])


@pytest.fixture(scope="module")
def read() -> tuple[Induced, int]:
    return induced_with(reader)


def precision(found: Induced) -> float:
    gold = {(chat.conversation_id, 2): chat.turn_labels[2] for chat in talks() if chat.turn_labels}
    scores = score_induction(
        [a.tag for a in found.assignments], [gold.get((a.conversation_id, a.turn), ()) for a in found.assignments]
    )
    assert scores is not None
    return scores.precision


def test_turns_that_want_the_same_are_grouped_though_they_share_no_word(read: tuple[Induced, int]) -> None:
    without, none = induced_with(reader, wishes=False)
    found, requests = read
    assert none == 0
    assert requests == len(WISH_OF), "greetings and thanks are not asked about"
    assert precision(without) < 0.5 and precision(found) > 0.7


def test_a_group_that_nobody_names_is_called_by_what_most_of_it_want(read: tuple[Induced, int]) -> None:
    found, _ = read
    names = [tag.name for tag in found.taxonomy.tags]
    assert (found.named_by_llm, found.named_by_wish) == (0, len(names)) and set(WANTED) <= set(names)
    first = found.taxonomy.tags[names.index("redeem fund")]
    assert first.id.startswith("redeem_fund_")
    assert re.match(r"Customers mostly want: redeem fund \(\d+ turns\)", first.definition)


def test_a_wish_is_the_name_of_one_group_only() -> None:
    def group(number: int, *wishes: tuple[str, int]) -> Group:
        return Group(number, 9, (f"word{number}",), (turn("what they said"),), (), wishes)

    groups = [group(0, ("sell fund", 5)), group(1, ("Sell fund", 4), ("ask price", 2)), group(2, ("ask price", 2))]
    found = fallback_namings([*groups, group(3)], {9: Naming("sell house", "The customer sells.")}, "en")
    assert [naming.name for naming in found.values()] == ["sell fund", "ask price", "word2", "word3"]
    taken = fallback_namings(groups[:1], {9: Naming("Sell Fund", "The customer sells.")}, "en")
    assert taken[0].name == "word0", "the LLM has given this name to another group"
    copied = fallback_namings(groups[1:2], {}, "en", {"sell fund"})
    assert copied[1].name == "ask price", "an example of the prompt is no name"
    assert not fallback_namings(groups[:1], {0: Naming("part with it", "The customer sells.")}, "en")
    assert fallback_namings([group(0, ("办理赎回", 5))], {}, "zh")[0].definition.startswith(
        "客户多想：办理赎回（5 句）。"
    )


@pytest.mark.parametrize(("language", "wish"), [("zh", "咨询物流进度"), ("en", "ask about late parcel")])
def test_examples_of_the_prompt_are_known(language: str, wish: str) -> None:
    examples = prompt_examples(language)
    assert wish in examples and len(examples) >= 10 and not {"无", "none"} & examples


def test_a_group_is_not_called_by_an_example_that_a_weak_model_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.induction.induce.prompt_examples", lambda language: frozenset({"redeem fund"}))
    found, _ = induced_with(reader)
    names = {tag.name for tag in found.taxonomy.tags}
    assert {*WANTED} - names == {"redeem fund"} and found.named_by_wish < len(names)


def test_a_heading_is_called_after_names_where_these_are_wishes() -> None:
    members = [Group(0, 9, ("barber",), (), (), (("sell fund", 3),)), Group(1, 8, ("lorry", "son"), (), ())]
    assert leads_of(members, ["sell fund", "lorry, son"]) == ["sell fund", "lorry"]


def test_where_not_all_turns_vote_the_voters_alone_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.induction.seen.VOTING_TURNS", 100)
    found, requests = induced_with(reader)
    assert requests == 100
    assert sum(a.tag != "none" for a in found.assignments) == len(WISH_OF), "the others get a tag without a wish"


def test_held_out_turns_have_no_wish_and_are_compared_with_what_others_said() -> None:
    copies = [Conversation(f"new-{chat.conversation_id}", chat.turns) for chat in talks()]
    found, _ = induced_with(reader, held_out=copies)
    assert found.critic
    given = Counter(a.tag for a in found.assignments if a.tag != "none")
    assert {tag: turns for tag, turns, _ in found.critic.tags} == given, "the same words fall where they fell before"


def test_groups_in_which_the_llm_sees_no_wish_are_small_talk() -> None:
    turns = [turn("the parcel of my aunt", i, wish="") for i in range(6)]
    turns += [turn("the parcel of my aunt", i, wish=None) for i in range(6)]
    assert small_talk(turns, np.repeat([0, 1], 6)) == {0}
