"""Data gates: a table against its contract, with Great Expectations on Spark.

A failed gate stops the night before anything is published and says which rows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.contracts import Contract, load_contract
from jobs.errors import ContractError
from jobs.storage import Tables

_ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold; `rows` holds the keys of rows that break it, at most 20."""

    table: str
    rule: str
    column: str | None
    count: int
    rows: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        place = f"{self.table}.{self.column}" if self.column else self.table
        rows = "".join(f"\n    {json.dumps(row, ensure_ascii=False, default=str)}" for row in self.rows)
        return f"  {place}: {self.rule}, {self.count} row(s){rows}"


def check_table(tables: Tables, name: str, ds: str, report_dir: Path) -> int:
    """Check night `ds` of table `name` against its contract and write the result as JSON under `report_dir`.

    Returns:
        How many rules were checked.

    Raises:
        ContractError: a rule does not hold; the message names rule and rows.
        InputError: this night was never written.
    """
    contract = load_contract(name)
    result = _validate(tables, contract, ds)
    report_dir.mkdir(parents=True, exist_ok=True)
    (report_dir / f"{name}.json").write_text(json.dumps(result, ensure_ascii=False, indent=1, default=str), "utf-8")
    violations = _violations(contract, result)
    if violations:
        raise ContractError(
            f"table {name}, night {ds}, breaks its contract {contract.version} (schemas/{name}.odcs.yaml); "
            "nothing is published:\n" + "\n".join(map(str, violations))
        )
    return len(result["results"])


def _validate(tables: Tables, contract: Contract, ds: str) -> dict[str, Any]:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # Great Expectations takes seconds to import: only where it is used.
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    # Nested columns cannot be counted as keys and are no part of a rule.
    flat = [c.name for c in contract.columns if c.logical_type not in ("array", "object")]
    frame = tables.read(contract.name, ds).select(*flat).persist()
    try:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
        batch = (
            context.data_sources.add_spark("warehouse", persist=False)
            .add_dataframe_asset(contract.name)
            .add_batch_definition_whole_dataframe("night")
            .get_batch({"dataframe": frame})
        )
        suite = gx.ExpectationSuite(name=contract.name)
        for rule in contract.rules:
            suite.add_expectation_configuration(
                ExpectationConfiguration(type=rule["type"], kwargs=rule["kwargs"], meta={"notes": rule["description"]})
            )
        result = batch.validate(
            suite,
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": list(contract.primary_key),
                "partial_unexpected_count": _ROWS_SHOWN,
            },
        )
        return dict(json.loads(str(result)))
    finally:
        frame.unpersist()


def _violations(contract: Contract, result: dict[str, Any]) -> list[Violation]:
    found = []
    for entry in result["results"]:
        if entry["success"]:
            continue
        config, detail = entry["expectation_config"], entry.get("result") or {}
        problem = (entry.get("exception_info") or {}).get("exception_message")
        rule = (config.get("meta") or {}).get("notes") or config["type"]
        if problem:
            rule = f"{rule} (could not be checked: {problem})"
        elif "observed_value" in detail:
            rule = f"{rule} (found {detail['observed_value']})"
        rows = tuple((detail.get("unexpected_index_list") or [])[:_ROWS_SHOWN])
        count = int(detail.get("unexpected_count") or len(rows))
        found.append(Violation(contract.name, rule, config["kwargs"].get("column"), count, rows))
    return found
