"""Stage gold: what people tagged, joined with the redacted text of the conversations they tagged.

A line of the gold file is `{"conversation_id", "ds", "split", "labels", "evidence": {tag: [turn, ...]},
"parameters": {tag: {...}}}`; text is not repeated there, it is read from the source of that night through the same
cleaning and redaction as every other conversation.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.contracts import load_contract
from jobs.errors import InputError
from jobs.ingestion.identifiers import checked_identifier
from jobs.ingestion.parse import parsed_records
from jobs.json_lines import json_lines
from jobs.privacy.pseudonym import CONVERSATION_ID, pseudonym, pseudonym_secret
from jobs.settings import Settings
from jobs.storage import Tables, check_ds
from jobs.taxonomies.lineage import current_labels
from jobs.taxonomies.store import approved_taxonomy
from jobs.taxonomy import Taxonomy

SPLITS = ("train", "calibration", "test")
_PARAMETERS = ("amount", "currency", "horizon_months", "risk_preference", "expected_return", "said")


def _current(row: dict[str, Any], taxonomy: Taxonomy) -> dict[str, Any]:
    """An annotation with the tags that earlier versions had under the names they have now."""

    def renamed(values: dict[str, Any] | None) -> dict[str, Any]:
        return {now: value for tag, value in (values or {}).items() for now in current_labels(taxonomy, [tag])}

    return row | {
        "labels": current_labels(taxonomy, row["labels"]),
        "evidence": renamed(row.get("evidence")),
        "parameters": renamed(row.get("parameters")),
    }


def _is_turn(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _problem(row: Any, known: set[str]) -> str | None:
    """What is wrong with an annotation, None where nothing is."""
    if not isinstance(row, dict) or not {"conversation_id", "ds", "split", "labels"} <= set(row):
        return "expected an object with conversation_id, ds, split and labels"
    if checked_identifier(row["conversation_id"]) is None:
        return "conversation_id is empty, or no text or whole number"
    if row["split"] not in SPLITS:
        return f"split {row['split']!r} is not one of {', '.join(SPLITS)}"
    labels, evidence, parameters = row["labels"], row.get("evidence") or {}, row.get("parameters") or {}
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "labels must be a list of tag ids, empty where no tag applies"
    if unknown := sorted(set(labels) - known):
        return f"tags that the taxonomy does not have: {', '.join(unknown)}"
    if not isinstance(evidence, dict) or not all(
        isinstance(turns, list) and all(map(_is_turn, turns)) for turns in evidence.values()
    ):
        return "evidence must give each tag a list of turns, whole numbers from 0"
    if not isinstance(parameters, dict) or not all(isinstance(value, dict) for value in parameters.values()):
        return "parameters must give each tag an object"
    return None


def read_annotations(path: Path, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Gold annotations of a file, checked.

    Raises:
        InputError: a line is not JSON, lacks a field, has one of the wrong form, repeats an id, or names a tag or split
            that does not exist.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such gold file (source.gold in the settings)")
    known, rows = {tag.id for tag in taxonomy.tags}, dict[str, dict[str, Any]]()
    for where, row in json_lines(path):
        if problem := _problem(row, known):
            raise InputError(f"{where}: {problem}")
        try:
            check_ds(row["ds"])
        except InputError as error:
            raise InputError(f"{where}: ds: {error}") from error
        identifier = str(row["conversation_id"]).strip()
        if identifier in rows:
            raise InputError(f"{where}: conversation {identifier} is tagged twice")
        rows[identifier] = _current(row | {"conversation_id": identifier}, taxonomy)
    if not rows:
        raise InputError(f"{path}: holds no gold")
    return list(rows.values())


def _check_evidence(annotation: dict[str, Any], text: dict[str, Any], path: Path) -> None:
    for tag, turns in annotation["evidence"].items():
        if beyond := [turn for turn in turns if turn >= len(text["turns"])]:
            raise InputError(
                f"{path}: conversation {annotation['conversation_id']}: the evidence for {tag} names turn {beyond[0]}, "
                f"but the chat has {len(text['turns'])} turns, counted from 0"
            )


def _gold_row(annotation: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    parameters = annotation.get("parameters") or {}
    return {
        "conversation_id": text["conversation_id"],
        "party_key": text["party_key"],
        "split": annotation["split"],
        "turns": text["turns"],
        "content_hash": text["content_hash"],
        "labels": list(annotation["labels"]),
        "evidence": [{"tag_id": t, "turns": list(turns)} for t, turns in (annotation.get("evidence") or {}).items()],
        "parameters": [
            {"tag_id": tag, "value": {name: value.get(name) for name in _PARAMETERS}}
            for tag, value in parameters.items()
        ],
    }


def gold(tables: Tables, settings: Settings, ds: str) -> int:
    """Write the gold known on night `ds`; returns the number of conversations.

    Raises:
        InputError: the file cannot be used, a tagged conversation is not in the source, or evidence lies beyond it.
    """
    if settings.source.gold is None:
        raise InputError("no gold: set source.gold to a file of annotated conversations (see docs/gold.md)")
    taxonomy = approved_taxonomy(settings, ds)
    by_night: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    path = settings.resolve(settings.source.gold)
    for annotation in read_annotations(path, taxonomy):
        if annotation["ds"] <= check_ds(ds):
            by_night[annotation["ds"]][annotation["conversation_id"]] = annotation
    rows: list[dict[str, Any]] = []
    for night, tagged in sorted(by_night.items()):
        found = _texts(tables, settings, night, list(tagged))
        if missing := sorted(set(tagged) - set(found)):
            raise InputError(f"gold: conversations of {night} that the source does not have: {', '.join(missing[:10])}")
        for identifier, annotation in tagged.items():
            _check_evidence(annotation, found[identifier], path)
        rows += [_gold_row(annotation, found[identifier]) for identifier, annotation in tagged.items()]
    if not rows:
        raise InputError(f"gold: no annotated conversation up to {ds}")
    schema = [f for f in load_contract("gold").spark_schema() if f.name != "ds"]
    values = [tuple(row[field.name] for field in schema) for row in rows]
    frame = tables.spark.createDataFrame(values, StructType(schema))
    return tables.write("gold", frame, ds)


def _texts(tables: Tables, settings: Settings, night: str, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Conversations by the id that the annotation gives, which ingest may have replaced by its pseudonym."""
    secret = pseudonym_secret(settings)
    annotated = {pseudonym(secret, CONVERSATION_ID, identifier): identifier for identifier in ids}
    parsed = parsed_records(tables.spark, settings, night).where(F.col("reason").isNull())
    wanted = parsed.where(F.col("conversation_id").isin([*ids, *annotated])).select(
        "conversation_id", "party_key", "turns", "content_hash"
    )
    rows = [row.asDict(recursive=True) for row in wanted.collect()]
    return {annotated.get(row["conversation_id"], row["conversation_id"]): row for row in rows}
