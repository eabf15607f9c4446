"""Which customer turns carry a wish."""

from __future__ import annotations

import pytest

from jobs.conversation import Conversation, Turn
from jobs.induction.courtesy import core
from jobs.induction.turns import customer_turns


def chat(number: int, *texts: str) -> Conversation:
    return Conversation(f"c{number}", tuple(Turn("customer", text) for text in texts))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Hi, this is Ann Lee and I would like to move my savings.", "I would like to move my savings."),
        ("Um, yeah. My card got eaten by the machine.", "My card got eaten by the machine."),
        ("您好，请问一下这个理财什么时候到期？", "这个理财什么时候到期？"),
        ("Thank you so much!", ""),
        ("好的，谢谢您！", ""),
        ("[图片]", ""),
        ("我的[姓名]，[卡号]这张卡要挂失", "我的 ， 这张卡要挂失"),
        ("嗯嗯", ""),
    ],
)
def test_core_is_what_is_left_without_courtesies(text: str, left: str) -> None:
    assert core(text) == left


def test_whole_chats_lose_greetings_numbers_names_and_consent() -> None:
    chats = [
        chat(0, "hello", "how do I block my stolen card", "4523 8871", "yes", "Ann Lee", "thank you so much"),
        chat(1, "你好", "我想把定期里的钱提前取出来", "13", "好的", "王芳", "谢谢"),
    ]
    found = [turn.text for turn in customer_turns(chats) if turn.carries]
    assert found == ["how do I block my stolen card", "我想把定期里的钱提前取出来"]


def test_mass_messages_carry_nothing_however_long() -> None:
    notice = "Season's greetings from the club: our branch is closed from Friday on and we are back on Monday morning."
    chats = [chat(i, notice, "hello", f"please raise the limit of card number {i} to ten thousand") for i in range(6)]
    turns = customer_turns(chats)
    assert not any(turn.carries for turn in turns if turn.text == notice)
    assert sum(turn.carries for turn in turns) == 6


def test_where_somebody_chose_the_turns_all_of_them_carry() -> None:
    chats = [chat(i, f"I want to change the address of policy number {i}") for i in range(9)] + [chat(9, "yes")]
    assert all(turn.carries for turn in customer_turns(chats))


def test_where_conversations_are_cut_down_to_one_turn_short_turns_carry_too() -> None:
    said = ["yes", "hello", "thank you so much", "I need proof of insurance", "no"]
    assert all(turn.carries for turn in customer_turns([chat(i, text) for i, text in enumerate(said)]))
    whole = customer_turns([chat(0, "hello", *said), chat(1, "no")])
    assert [turn.text for turn in whole if turn.carries] == ["I need proof of insurance"]


def test_turn_numbers_count_the_agents_turns_too() -> None:
    talk = Conversation("c", (Turn("agent", "Hello"), Turn("customer", "I lost my card"), Turn("agent", "Oh")))
    assert [(turn.conversation_id, turn.turn) for turn in customer_turns([talk])] == [("c", 1)]


def test_whole_chats_that_say_much_still_lose_their_empty_turns_and_pasted_pages() -> None:
    wishes = ["how do I block my stolen card", "I want to move my savings", "what is the fee for a transfer abroad"]
    page = "<html><body><center>the gateway did not answer in time</center></body></html>"
    turns = customer_turns([chat(i, *(f"{w} number {i}" for w in wishes), *wishes, page) for i in range(4)])
    assert {turn.text for turn in turns if not turn.carries} == {page}
