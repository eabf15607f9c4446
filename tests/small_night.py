"""A small night for tests of the labelling stages: a student that knows two words, an LLM that knows all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.gold import gold
from jobs.ingest import ingest
from jobs.label import LabelResult, label
from jobs.llm.offline import OfflineFolder
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.train import train
from tests.fake_llm import MODEL, Reply, reply_json

FIRST, SECOND, THIRD, FOURTH = "2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"
TAXONOMY = """
taxonomy: small
version: 3
tags:
  - {id: maturity, name: 到期承接, definition: 客户的产品到期要接续。}
  - {id: redemption, name: 赎回转出, definition: 客户想卖出或转走。}
"""
# The student learns 到期 and 赎回; what else people say for it, each word once, only the LLM knows.
KNOWN = {"maturity": "我的理财到期了怎么办", "redemption": "我想赎回那只基金"}
WORDS = {"maturity": ("满期", "兑付", "届满"), "redemption": ("脱手", "抛掉", "转走")}
SAYS = {"到期": "maturity", "赎回": "redemption"} | {word: tag for tag, words in WORDS.items() for word in words}
NEEDED = 9 + 5
"""Requests of the second night: texts of calibration gold (test gold repeats them), then of the night."""
NOBODY = "http://127.0.0.1:9/v1"
"""An address where nobody listens."""
WAVE = 4
"""Requests a wave where a test asks `in_waves`; else all go in one."""
FILLER = (
    "张总说",
    "今天下雨",
    "吃过饭了",
    "刚开完会",
    "孩子放学了",
    "路上堵车",
    "天冷了",
    "周末愉快",
    "在忙",
    "回头聊",
)


def oracle(body: dict[str, Any]) -> Reply:
    """A perfect labeller of these chats."""
    said = body["messages"][-1]["content"]
    tags = [{"tag": tag, "turns": [0], "quote": word} for word, tag in SAYS.items() if word in said]
    return reply_json({"tags": tags, "cannot_tell": False})


def chat(identifier: str, text: str, night: str) -> dict[str, Any]:
    return {
        "conversation_id": identifier,
        "channel": "wecom",
        "channel_user_id": f"wm-{identifier}",
        "started_at": f"{night}T10:00:00+08:00",
        "turns": [{"speaker": "customer", "text": text}, {"speaker": "advisor", "text": "好的"}],
    }


def put(settings: Settings, night: str, chats: list[dict[str, Any]]) -> None:
    folder = Path(settings.source.path.format(ds=night))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("\n".join(json.dumps(c, ensure_ascii=False) for c in chats), "utf-8")


def in_folder(settings: Settings, folder: Path) -> Settings:
    """Settings of the small night in `folder`: every tag is unsure, so the LLM matters."""
    return settings.model_copy(
        update={
            "source": settings.source.model_copy(update={"gold": str(folder / "gold.jsonl")}),
            "student": settings.student.model_copy(update={"embeddings": False}),
            "label": settings.label.model_copy(
                update={"taxonomy": str(folder / "taxonomy.yaml"), "unsure_low": 0.0, "unsure_high": 1.0}
            ),
        }
    )


def in_waves(settings: Settings) -> Settings:
    """The same with requests committed four at a time."""
    label = settings.label.model_copy(update={"wave_size": WAVE, "wave_seconds": 0.0})
    return settings.model_copy(update={"label": label})


def build(tables: Tables, settings: Settings, folder: Path) -> None:
    """Four nights of chats, gold in the first, a trained student; `settings` are those of `in_folder`."""
    annotations, first = [], []
    for i, word in enumerate(FILLER):
        for split in ("train", "calibration", "test"):
            if split != "train" and i >= 3:
                continue
            texts = KNOWN if split == "train" else {tag: f"这个{words[i]}呢" for tag, words in WORDS.items()}
            for tag, text in [*texts.items(), (None, "")]:
                identifier = f"{split}-{tag}-{i}"
                first.append(chat(identifier, f"{word} {text}".strip(), FIRST))
                annotations.append(
                    {"conversation_id": identifier, "ds": FIRST, "split": split, "labels": [tag] if tag else []}
                    | {"evidence": {tag: [0]} if tag else {}}
                )
    put(settings, FIRST, first)
    put(settings, SECOND, [chat(f"s{i}", f"第{i}次 这个满期呢", SECOND) for i in range(5)])
    for later in (THIRD, FOURTH):
        put(settings, later, [chat(f"{later}-{i}", f"{later} {i} {KNOWN['redemption']}", later) for i in range(2)])
    (folder / "taxonomy.yaml").write_text(TAXONOMY, "utf-8")
    (folder / "gold.jsonl").write_text("\n".join(json.dumps(a) for a in annotations), "utf-8")
    for ds in (FIRST, SECOND, THIRD, FOURTH):
        ingest(tables, settings, ds)
    prepare(tables, settings, SECOND)


def prepare(tables: Tables, settings: Settings, ds: str) -> None:
    gold(tables, settings, ds)
    train(tables, settings, ds, say=lambda text: None)


def run(tables: Tables, settings: Settings, ds: str, url: str) -> LabelResult:
    return label(tables, at(settings, url), ds, say=lambda text: None)


def at(settings: Settings, url: str) -> Settings:
    llm = settings.llm.model_copy(
        update={"profile": "endpoint", "base_url": url, "model": MODEL, "retries": 1}
        | {"backoff_seconds": 0.01, "timeout_seconds": 20.0}
    )
    return settings.model_copy(update={"llm": llm})


def outcomes(tables: Tables, ds: str) -> dict[str, tuple[str, int]]:
    return {r["conversation_id"]: (r["status"], r["attempts"]) for r in tables.read("label_outcomes", ds).collect()}


def answer_files(folder: OfflineFolder, script: Callable[[dict[str, Any]], Reply]) -> int:
    """What `vllm run-batch` would bring back from a model that answers by `script`; how many requests were open."""
    lines, count = [], folder.collect().open
    for line in (line for part in folder.open_requests(1_000) for line in part):
        request = json.loads(line)
        choice = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": script(request["body"]).content}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}
        lines.append({"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}, "error": None})
    place = folder.folder / "answers"
    place.mkdir(exist_ok=True)
    (place / f"{len(list(place.iterdir()))}.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in lines), "utf-8"
    )
    return count
