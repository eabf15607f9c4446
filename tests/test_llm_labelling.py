"""The labelling prompt, its schema, and what an answer must prove."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from jobs.conversation import Conversation, Turn
from jobs.errors import InputError
from jobs.llm.answers import BadAnswerError, parse_answer
from jobs.llm.confidence import tag_confidence
from jobs.llm.labelling import LabelPrompt, answer_key
from jobs.llm.profiles import PROFILES, ServingProfile, read_profile
from jobs.settings import PROJECT
from jobs.taxonomy import load_taxonomy, parse_taxonomy

WEALTH = load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml")
CHAT = Conversation(
    "c",
    (
        Turn("agent", "王姐，理财月底到期，要不要买稳盈"),
        Turn("customer", "到期 了啊，这钱 不能亏　ＯＫ"),
        Turn("customer", "那就买二十万"),
    ),
)


def profile(name: str = "gpu-qwen3-8b") -> ServingProfile:
    return read_profile(PROFILES / f"{name}.yaml")


def answer(*tags: tuple[str, list[int], str], cannot_tell: bool = False) -> str:
    entries = [{"tag": tag, "turns": turns, "quote": quote} for tag, turns, quote in tags]
    return json.dumps({"tags": entries, "cannot_tell": cannot_tell}, ensure_ascii=False)


def test_prefix_is_the_same_for_every_conversation() -> None:
    prompt = LabelPrompt(WEALTH, profile())
    other = Conversation("d", (Turn("customer", "转账限额怎么调"),))
    first, second = (prompt.messages(prompt.windows(chat)[0]) for chat in (CHAT, other))
    assert first[0] == second[0]
    assert first[-1]["role"] == "user" and first[-1]["content"].endswith("</conversation>")
    assert "到期 了啊" not in first[0]["content"] and "到期 了啊" in first[-1]["content"]


def test_detail_decides_how_much_is_told() -> None:
    full, brief = LabelPrompt(WEALTH, profile()).system, LabelPrompt(WEALTH, profile("cpu-smollm2")).system
    for tag in WEALTH.tags:
        assert tag.id in brief and tag.name in brief
        assert tag.definition in full
    assert WEALTH.borders[0] in full and WEALTH.borders[0] not in brief
    assert WEALTH.tags[0].definition not in brief


def test_prompt_hash_counts_form_but_not_tags() -> None:
    base = LabelPrompt(WEALTH, profile())
    assert LabelPrompt(WEALTH, profile(), tags=WEALTH.tag_ids[:20]).prompt_hash == base.prompt_hash
    assert LabelPrompt(WEALTH, profile(), language="en").prompt_hash != base.prompt_hash
    assert LabelPrompt(WEALTH, profile("cpu-smollm2")).prompt_hash != base.prompt_hash


def test_answer_key_counts_each_of_its_parts() -> None:
    parts = ["content", "definition", "prompt", "model"]
    keys = {answer_key(*parts)}
    for place in range(4):
        keys.add(answer_key(*(part + "x" * (place == i) for i, part in enumerate(parts))))
    assert len(keys) == 5 and all(len(key) == 64 for key in keys)


@pytest.mark.parametrize("name", ["cpu-smollm2", "gpu-qwen3-8b"])
def test_schema_is_valid_and_bounded(name: str) -> None:
    prompt = LabelPrompt(WEALTH, profile(name))
    schema = prompt.schema(CHAT)
    jsonschema.Draft202012Validator.check_schema(schema)
    tag = ("ready_to_buy", [2], "那就买二十万")
    jsonschema.validate(json.loads(answer(tag)), schema)
    jsonschema.validate(json.loads(answer(cannot_tell=True)), schema)
    for wrong in (answer(("nope", [1], "到期 了啊")), answer(*[tag] * (prompt.max_tags + 1)), '{"tags":[]}'):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(wrong), schema)


def test_choosing_offers_only_what_the_customer_said() -> None:
    schema = LabelPrompt(WEALTH, profile("cpu-smollm2")).schema(CHAT)
    fields = schema["properties"]["tags"]["items"]["properties"]
    assert fields["turns"]["items"]["enum"] == [1, 2]
    for quote in fields["quote"]["enum"]:
        assert parse_answer(answer(("maturity", [1], quote)), CHAT, WEALTH.tag_ids).tags
    assert not any("稳盈" in quote for quote in fields["quote"]["enum"])


def test_quote_is_compared_without_width_case_and_space() -> None:
    got = parse_answer(answer(("preservation", [1], "这钱不能亏ok")), CHAT, WEALTH.tag_ids)
    assert got.tags[0].evidence[0].turn == 1


def test_of_a_long_quote_the_beginning_is_kept() -> None:
    got = parse_answer(answer(("ready_to_buy", [2], " 那就买二十万 ")), CHAT, WEALTH.tag_ids, longest=4)
    assert got.tags[0].evidence[0].quote == "那就买二"
    with pytest.raises(BadAnswerError):  # all of it must be there, not only what is kept
        parse_answer(answer(("ready_to_buy", [2], "那就买二百万")), CHAT, WEALTH.tag_ids, longest=4)


def test_copied_quotes_are_not_counted_by_the_grammar() -> None:
    """A length there costs the server fifty times the rest of the grammar."""
    schema = LabelPrompt(WEALTH, profile()).schema(CHAT)
    assert schema["properties"]["tags"]["items"]["properties"]["quote"] == {"type": "string"}


def test_slipped_turn_number_is_put_right() -> None:
    got = parse_answer(answer(("ready_to_buy", [0, 1], "那就买二十万")), CHAT, WEALTH.tag_ids)
    assert got.tags[0].evidence[0].turn == 2


def test_repeated_tag_is_merged() -> None:
    got = parse_answer(answer(("maturity", [1], "到期了"), ("maturity", [2], "买二十万")), CHAT, WEALTH.tag_ids)
    assert [len(tag.evidence) for tag in got.tags] == [2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (answer(("ready_to_buy", [0], "要不要买稳盈")), "quote_not_found"),
        (answer(("maturity", [1], "")), "quote_not_found"),
        (answer(("maturity", [1], "　")), "quote_not_found"),
        (answer(("maturity", [1], "了")), "quote_not_found"),
        (answer(("maturity", [99], "我要投诉")), "quote_not_found"),
        (answer(("unheard_of", [1], "到期了")), "unknown_tag"),
        (answer(("maturity", [1], "到期了"), cannot_tell=True), "contradiction"),
        ('{"tags":[{"tag":"maturity","turns":"1","quote":"到期了"}],"cannot_tell":false}', "schema"),
        ('{"tags":[],"cannot_tell":"no"}', "schema"),
        ("[" * 100_000, "not_json"),
        ("标签：到期承接", "not_json"),
    ],
)
def test_bad_answers(text: str, reason: str) -> None:
    with pytest.raises(BadAnswerError) as caught:
        parse_answer(text, CHAT, WEALTH.tag_ids)
    assert caught.value.reason == reason


def test_odd_characters_stay_on_one_line() -> None:
    nasty = "a\r\nb\u2028c\x00d\u202ee\ud800f\x85g\u200bh"
    (got,) = LabelPrompt(WEALTH, profile(), language="en").windows(Conversation("n", (Turn("customer", nasty),)))
    assert got.text.split("\n") == ["<conversation>", "0 Customer: a b cdef gh", "</conversation>"]
    got.text.encode("utf-8")


def test_too_many_tags_for_the_model_is_said() -> None:
    many = parse_taxonomy({"tags": [{"id": f"t{i}", "name": "一个很长的标签名称"} for i in range(400)]}, "many")
    with pytest.raises(InputError, match="leaves no room"):
        LabelPrompt(many, profile("cpu-smollm2"))


def test_confidence_is_the_probability_of_the_tag_tokens() -> None:
    text = '{"tags":[{"tag":"maturity"'
    tokens = [('{"tags":[{"tag":"', -5.0), ("mat", -0.2), ("urity", -0.1), ('"', -3.0)]
    assert tag_confidence(text, tokens)["maturity"] == pytest.approx(0.7408, abs=1e-4)
    assert tag_confidence(text, []) == {}


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_profiles_read(path: Path) -> None:
    got = read_profile(path, base_url=None if path.stem != "endpoint" else "http://127.0.0.1:1/v1")
    assert got.name == path.stem
    if got.managed:
        assert got.address[0] == "127.0.0.1"
        assert int(str(got.flags["max-model-len"])) == got.context_length


def test_profile_mistakes_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "{description: d, model: m, served_model_name: m, base_url: 'http://0.0.0.0:80/v1', context_length: 9, "
        "max_output_tokens: 4, colour: red}"
    )
    with pytest.raises(InputError, match="colour"):
        read_profile(wrong)
    wrong.write_text(wrong.read_text().replace(", colour: red", ""))
    with pytest.raises(InputError, match="this machine only"):
        read_profile(wrong)
    with pytest.raises(InputError, match="cpu-smollm2"):
        read_profile(tmp_path / "none.yaml")
