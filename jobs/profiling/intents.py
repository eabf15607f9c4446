"""`investment_intents`: the pots of every customer, folded in parallel by Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow_tasks import ArrowTask, map_in_arrow
from jobs.conversation import BUSINESS_ZONE
from jobs.profiling.pots import Mention, Pot, fold_pots

_OUT = pa.schema(
    [
        ("customer_id", pa.string()),
        ("intent_id", pa.string()),
        ("tag_id", pa.string()),
        ("also_tags", pa.string()),
        ("first_seen", pa.string()),
        ("last_seen", pa.string()),
        ("amount", pa.float64()),
        ("currency", pa.string()),
        ("horizon_months", pa.float64()),
        ("needed_by", pa.string()),
        ("risk_preference", pa.string()),
        ("expected_return", pa.float64()),
        ("said", pa.string()),
        ("mentions", pa.int32()),
        ("conversation_id", pa.string()),
        ("confidence", pa.float64()),
        ("quality", pa.string()),
    ]
)
_DDL = (
    "customer_id string, intent_id string, tag_id string, also_tags string, first_seen string, last_seen string, "
    "amount double, currency string, horizon_months double, needed_by string, risk_preference string, "
    "expected_return double, said string, mentions int, conversation_id string, confidence double, quality string"
)


def _mention(row: dict[str, Any], ranks: dict[str, int], names: Mapping[str, str]) -> Mention:
    values = row["parameters"] or {}
    tag_id = names.get(row["tag_id"], row["tag_id"])
    amount = values.get("amount")
    return Mention(
        party_key=row["party_key"],
        conversation_id=row["conversation_id"],
        night=row["conversation_ds"],
        when=row["when"],
        day=row["day"],
        tag_id=tag_id,
        label=row["tag_id"],
        rank=ranks[tag_id],
        confidence=row["confidence"],
        quality=row["quality"],
        turns=frozenset(row["turns"] or ()),
        amount=amount,
        currency=values.get("currency") if amount is not None else None,
        horizon_months=values.get("horizon_months"),
        risk_preference=values.get("risk_preference"),
        expected_return=values.get("expected_return"),
        said=tuple(values.get("said") or ()),
    )


def _row(customer_id: str, pot: Pot, ranks: dict[str, int]) -> dict[str, Any]:
    return {
        "customer_id": customer_id,
        "intent_id": pot.intent_id,
        "tag_id": pot.tag_id,
        "also_tags": ",".join(sorted(pot.also, key=lambda tag: ranks[tag])),
        "first_seen": pot.first_seen,
        "last_seen": pot.last_seen,
        "amount": pot.amount,
        "currency": pot.currency,
        "horizon_months": pot.horizon_months,
        "needed_by": pot.needed_by,
        "risk_preference": pot.risk_preference,
        "expected_return": pot.expected_return,
        "said": " … ".join(pot.said) or None,
        "mentions": pot.mentions,
        "conversation_id": pot.last.conversation_id,
        "confidence": pot.confidence,
        "quality": pot.quality,
    }


def _folder(ranks: dict[str, int], names: Mapping[str, str], purposes: Sequence[str], window_days: int) -> ArrowTask:
    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [
                _row(customer["customer_id"], pot, ranks)
                for customer in batch.to_pylist()
                for pot in fold_pots((_mention(m, ranks, names) for m in customer["said"]), purposes, window_days)
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=_OUT)

    return fold


def investment_intents(
    tagged: DataFrame, intent_tags: Sequence[str], names: Mapping[str, str], purposes: Sequence[str], window_days: int
) -> DataFrame:
    """Rows of `investment_intents`.

    Args:
        tagged: rows of `tagged_contacts`.
        intent_tags: tags of kind intent in the taxonomy's order, which decides between equals.
        names: what tags of earlier versions are called now; a tag that is not here keeps its name.
        purposes: those that say what money is for.
        window_days: days after which a pot that nobody spoke of is closed.
    """
    ranks = {tag: rank for rank, tag in enumerate(intent_tags)}
    mention = F.struct(
        "party_key",
        "conversation_id",
        "conversation_ds",
        F.date_format("started_at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS").alias("when"),
        F.date_format(F.from_utc_timestamp("started_at", BUSINESS_ZONE.key), "yyyy-MM-dd").alias("day"),
        "tag_id",
        "confidence",
        "quality",
        F.transform("evidence", lambda item: item["turn"]).alias("turns"),
        "parameters",
    )
    customers = (
        tagged.where(F.col("tag_id").isin(*intent_tags))
        .groupBy("customer_id")
        .agg(F.collect_list(mention).alias("said"))
    )
    return map_in_arrow(customers, _folder(ranks, names, tuple(purposes), window_days), _DDL)
