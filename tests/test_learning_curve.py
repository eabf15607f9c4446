"""The learning curve: draws give each tag what they say, nothing of the held-out part is learned, files are written."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jobs.conversation import Conversation, Turn, write_conversations
from jobs.errors import InputError
from jobs.evaluation.learning_curve import GOLD_A_TAG, draw_gold, learning_curve, split_pool
from jobs.settings import Settings, StudentSettings

WORDS = {"card": ("card", "plastic", "chip"), "loan": ("loan", "credit", "borrow"), "fee": ("fee", "charge", "cost")}


def conversations() -> list[Conversation]:
    generator = np.random.default_rng(3)
    made = []
    for i in range(300):
        tags = [tag for tag in WORDS if generator.random() < 0.3]
        said = [WORDS[tag][generator.integers(3)] for tag in tags]
        text = " ".join([f"case{i} please", *said, str(generator.integers(99))])
        made.append(Conversation(f"c{i}", (Turn("customer", text),), labels=tuple(tags)))
    return made


def test_a_draw_gives_every_tag_its_gold_and_keeps_the_share_without_a_tag() -> None:
    pool, held = split_pool(conversations(), np.random.default_rng(1))
    assert len(held) == 120 and not {c.content_hash for c in pool} & {c.content_hash for c in held}
    sizes = []
    for size in GOLD_A_TAG:
        gold = draw_gold(pool, size)
        have = Counter(tag for c in gold for tag in c.labels or ())
        there = Counter(tag for c in pool for tag in c.labels or ())
        assert all(have[tag] >= min(size, there[tag]) for tag in WORDS)
        bare = sum(not c.labels for c in gold) / len(gold)
        assert bare == pytest.approx(sum(not c.labels for c in pool) / len(pool), abs=0.06)
        sizes.append(len(gold))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_equal_texts_stay_on_one_side() -> None:
    twice = conversations() + [Conversation(f"again-{c.conversation_id}", c.turns, c.labels) for c in conversations()]
    pool, held = split_pool(twice, np.random.default_rng(1))
    assert not {c.content_hash for c in pool} & {c.content_hash for c in held}
    loud = [Conversation(f"loud-{c.conversation_id}", (Turn("customer", c.turns[0].text.upper()),)) for c in twice]
    more, held_too = split_pool(twice + loud, np.random.default_rng(1))
    assert not {c.copy_key for c in more} & {c.copy_key for c in held_too}


def test_the_command_writes_rising_figures_and_a_plot(settings: Settings, tmp_path: Path) -> None:
    lines = [
        {"conversation_id": c.conversation_id, "labels": list(c.labels or ())}
        | {"turns": [{"speaker": t.speaker, "text": t.text} for t in c.turns]}
        for c in conversations()
    ]
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(entry) + "\n" for entry in lines), "utf-8")
    plain = settings.model_copy(update={"student": StudentSettings(embeddings=False)})
    result = learning_curve(source, tmp_path / "out", seeds=2, settings=plain)
    assert json.loads((tmp_path / "out" / "learning_curve.json").read_text("utf-8")) == json.loads(json.dumps(result))
    assert [point["gold_a_tag"] for point in result["points"]] == list(GOLD_A_TAG)
    first, last = (np.mean(result["points"][i]["micro_f1"]) for i in (0, -1))
    assert first < last > 0.9
    assert "<svg" in (tmp_path / "out" / "learning_curve.svg").read_text("utf-8")
    odd = source.rename(tmp_path / "金标$1_{$b<&.jsonl")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        learning_curve(odd, tmp_path / "odd", seeds=1, settings=plain)
    assert "金标$1_{$b&lt;&amp;.jsonl" in (tmp_path / "odd" / "learning_curve.svg").read_text("utf-8")
    source.write_text(json.dumps(lines[0] | {"labels": []}) + "\n", "utf-8")
    with pytest.raises(InputError, match="holds no labels"):
        learning_curve(source, tmp_path / "out", seeds=2, settings=plain)


def test_what_cannot_be_held_out_or_written_is_said_before_anything_is_learned(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*rest: object, **more: object) -> None:
        pytest.fail("the student learned")

    monkeypatch.setattr("jobs.evaluation.learning_curve.Student.fit", fit)
    source = tmp_path / "chats.jsonl"
    source.write_text(
        "".join(
            json.dumps(
                {"conversation_id": str(i), "turns": [{"speaker": "customer", "text": "fee"}], "labels": ["fee"]}
            )
            + "\n"
            for i in range(8)
        ),
        "utf-8",
    )
    with pytest.raises(InputError, match="too few different conversations"):
        learning_curve(source, tmp_path / "out", seeds=1, settings=settings)
    write_conversations(source, conversations())
    with pytest.raises(InputError, match="cannot be written"):
        learning_curve(source, source, seeds=1, settings=settings)
