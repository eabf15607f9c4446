"""Hand-made facts of a night, as the stages would write them: all 23 wealth tags, gold, labels, scores."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyspark.sql.types import StructType

from jobs.contracts import load_contract
from jobs.metrics import wilson
from jobs.settings import PROJECT
from jobs.storage import Tables
from jobs.taxonomy import load_taxonomy

DS = "2026-11-20"
TAGS = load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml").tag_ids
WRONG_QUOTE = "<script>alert('quote')</script>这只再涨点我就卖"
MISSED_TEXT = "孩子明年要出国，学费得先备着 & <b>别动</b>"
TEST_TEXT = "考题原文：隔壁银行给到三个点"


def write(tables: Tables, name: str, rows: Sequence[Mapping[str, Any]], ds: str) -> None:
    """Write rows given as dictionaries; columns left out are null."""
    schema = StructType([f for f in load_contract(name).spark_schema() if f.name != "ds"])
    values = [tuple(row.get(f.name) for f in schema) for row in rows]
    tables.write(name, tables.spark.createDataFrame(values, schema), ds)


def score_row(labeller: str, split: str, tag: str, tp: int, fp: int, fn: int) -> dict[str, Any]:
    """A row of `scores` with Wilson intervals and the verdict against 0.90."""

    def figure(right: int, n: int) -> tuple[float, float | None, float | None]:
        if n == 0:
            return 0.0, None, None
        interval = wilson(right, n)
        return right / n, interval.low, interval.high

    precision, recall = figure(tp, tp + fp), figure(tp, tp + fn)
    bounds = [precision[1] or 0.0, recall[1] or 0.0]
    tops = [precision[2] or 1.0, recall[2] or 1.0]
    verdict = "met" if min(bounds) >= 0.9 else "below" if min(tops) < 0.9 else "unproven"
    return {
        "labeller": labeller,
        "split": split,
        "tag_id": tag,
        "support": tp + fn,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "precision": precision[0],
        "precision_low": precision[1],
        "precision_high": precision[2],
        "recall": recall[0],
        "recall_low": recall[1],
        "recall_high": recall[2],
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
        "verdict": verdict,
    }


@dataclass
class Facts:
    """One night; tests change a field before `write_to`."""

    ds: str = DS
    llm_scores: bool = True
    quarantine: Mapping[str, int] = field(default_factory=lambda: {"not_json": 3, "future_date": 1, "empty_text": 2})
    conversations: int = 40
    pending: int = 2
    test_counts: Mapping[str, tuple[int, int, int]] = field(
        default_factory=lambda: {
            "retirement": (60, 0, 1),
            "growth": (8, 2, 3),
            "complaint": (5, 20, 14),
            "inheritance": (0, 0, 0),
            **{tag: (6, 1, 1) for tag in TAGS if tag not in ("retirement", "growth", "complaint", "inheritance")},
        }
    )

    def write_to(self, tables: Tables) -> None:
        """Write every table that report, tracking and summary read."""
        write(tables, "conversations", [self._conversation(i) for i in range(self.conversations)], self.ds)
        places = [(reason, i) for reason, count in self.quarantine.items() for i in range(count)]
        rows = [
            {"source": "wecom.jsonl", "position": n, "reason": reason, "bytes": 10, "raw_hash": f"{n:064d}"}
            for n, (reason, _) in enumerate(places)
        ]
        write(tables, "quarantine", rows, self.ds)
        labels = [row for i in range(self.conversations - self.pending) for row in self._labels(i)]
        write(tables, "labels", labels, self.ds)
        write(tables, "label_outcomes", [self._outcome(i) for i in range(self.conversations)], self.ds)
        write(tables, "gold", [self._gold(i) for i in range(self.conversations)], self.ds)
        write(tables, "scores", self.scores(), self.ds)
        predictions = [row for i in range(self.conversations) for row in self._predictions(i)]
        write(tables, "gold_predictions", predictions, self.ds)
        write(tables, "llm_trust", [self._trust(n, tag) for n, tag in enumerate(TAGS)], self.ds)
        write(tables, "tag_promises", [self._promise(tag) for tag in TAGS], self.ds)
        write(tables, "band_costs", self._costs() if self.llm_scores else [], self.ds)

    def _predictions(self, i: int) -> list[dict[str, Any]]:
        if self._split(i) == "train":
            return []
        base = {"labeller": "cascade", "split": self._split(i), "conversation_id": f"WX{i:04d}"}
        said = [base | {"tag_id": row["tag_id"], "confidence": row["confidence"]} for row in self._labels(i)]
        # Of one conversation nothing more can be told.
        return [*said, base | {"tag_id": "cannot_tell", "confidence": 1.0}] if i == 5 else said

    def _trust(self, n: int, tag: str) -> dict[str, Any]:
        llm = 3 if n % 4 == 0 else 9
        return {
            "tag_id": tag,
            "compared": 60 if self.llm_scores else 0,
            "support": 7,
            "student_errors": 5 if self.llm_scores else 0,
            "llm_errors": llm if self.llm_scores else 0,
            "llm_precision": 0.5,
            "llm_decides": self.llm_scores and llm < 5,
            "reason": "the LLM makes fewer errors",
        }

    def _promise(self, tag: str) -> dict[str, Any]:
        cuts = {"retirement": ("student", 0.4, 0.4), "growth": ("cascade", 0.8, 0.1)}
        promised, accept, reject = cuts.get(tag, ("none", None, None))
        return {
            "tag_id": tag,
            "gold": 258,
            "positives": 30,
            "promised": promised,
            "accept_at": accept,
            "reject_at": reject,
            "precision_low": 0.7,
            "recall_low": 0.6,
            "level": 0.002,
            "more_gold": 0 if accept else None if tag == "complaint" else 412,
            "reason": "too little gold",
        }

    def _costs(self) -> list[dict[str, Any]]:
        shapes = ((0.0, 60, 0.97, 0.92), (0.2, 31, 0.95, 0.905), (0.5, 0, 0.86, 0.79))
        return [
            {"low": low, "high": 1 - low, "conversations": 60, "asked": asked, "proven": bound >= 0.9}
            | {"precision": figure, "recall": figure - 0.01, "f1": figure, "chosen": low == 0.2}
            | {"precision_low": bound, "recall_low": bound, "whole": True}
            for low, asked, figure, bound in shapes
        ]

    def scores(self) -> list[dict[str, Any]]:
        """Rows of `scores`."""
        rows = []
        for labeller, split in (("cascade", "test"), ("student", "calibration"), ("llm", "calibration")):
            if labeller == "llm" and not self.llm_scores:
                continue
            shift = {"cascade": 0, "student": 2, "llm": 5}[labeller]
            found = []
            for number, (tag, (tp, fp, fn)) in enumerate(self.test_counts.items()):
                worse = (shift if number % 4 else 1) if labeller == "llm" else shift
                found.append(score_row(labeller, split, tag, tp, fp + worse, fn))
            totals = [sum(row[name] for row in found) for name in ("tp", "fp", "fn")]
            micro = score_row(labeller, split, "micro", *totals)
            means = {name: sum(row[name] for row in found) / len(found) for name in ("precision", "recall", "f1")}
            macro = {"labeller": labeller, "split": split, "tag_id": "macro", "support": micro["support"], **means}
            rows += [*found, micro, macro]
        return rows

    def _conversation(self, i: int) -> dict[str, Any]:
        return {
            "conversation_id": f"WX{i:04d}",
            "channel": ("wecom", "app", "phone")[i % 3],
            "party_key": f"{i % 20:032x}",
            "started_at": datetime(2026, 11, 20, 9, tzinfo=UTC),
            "turns": self._turns(i),
            "n_turns": 2,
            "content_hash": self._hash(i),
            "redactions": 0,
        }

    def _split(self, i: int) -> str:
        return ("train", "calibration", "test")[i % 3]

    def _turns(self, i: int) -> list[dict[str, Any]]:
        said = TEST_TEXT if self._split(i) == "test" else f"{MISSED_TEXT}（{i}）"
        return [{"turn": 0, "speaker": "advisor", "text": "您好"}, {"turn": 1, "speaker": "customer", "text": said}]

    def _hash(self, i: int) -> str:
        return hashlib.sha256(f"{self.ds} {i}".encode()).hexdigest()

    def _truth(self, i: int) -> list[str]:
        chosen = random.Random(i)
        return sorted(chosen.sample(TAGS, chosen.choice((0, 1, 1, 2, 3))))

    def _gold(self, i: int) -> dict[str, Any]:
        return {
            "conversation_id": f"WX{i:04d}",
            "party_key": f"{i % 20:032x}",
            "split": self._split(i),
            "turns": self._turns(i),
            "content_hash": self._hash(i),
            "labels": self._truth(i),
            "evidence": [{"tag_id": tag, "turns": [1]} for tag in self._truth(i)],
            "parameters": [],
        }

    def _labels(self, i: int) -> list[dict[str, Any]]:
        tags = [tag for n, tag in enumerate(self._truth(i)) if (i + n) % 4]
        if i % 5 == 1:
            tags.append(next(tag for tag in TAGS[i % 23 :] + TAGS if tag not in self._truth(i)))
        rows = []
        for n, tag in enumerate(tags or ["none"]):
            llm = (i + n) % 4 == 1
            quote = TEST_TEXT if self._split(i) == "test" else WRONG_QUOTE
            rows.append(
                {
                    "conversation_id": f"WX{i:04d}",
                    "conversation_ds": self.ds,
                    "tag_id": tag,
                    "confidence": 0.55 + (i * 7 + n) % 45 / 100,
                    "evidence": [{"turn": 1, "quote": quote}],
                    "labeller": "llm" if llm else "student",
                    "model": "smollm2-135m-instruct" if llm else "student-5f0c1d2e3a4b5968",
                    "taxonomy_version": 1,
                    "prompt_hash": "ab" * 32 if llm else None,
                    "content_hash": self._hash(i),
                }
            )
        return rows

    def _outcome(self, i: int) -> dict[str, Any]:
        pending = i >= self.conversations - self.pending
        tags = [] if pending else [row for row in self._labels(i) if row["tag_id"] != "none"]
        return {
            "conversation_id": f"WX{i:04d}",
            "conversation_ds": self.ds,
            "status": "pending" if pending else "labelled",
            "reason": "the LLM did not answer: <i>timeout</i>" if pending else None,
            "attempts": 1,
            "tags": len(tags),
            "llm_asked": any(row["labeller"] == "llm" for row in tags),
        }
