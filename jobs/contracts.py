"""Table contracts (`schemas/*.odcs.yaml`, Open Data Contract Standard 3): the one source of every table's shape.

The Spark schema, the SQL table and the Great Expectations suite are all built from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql.types import DataType, StructType

from jobs.errors import InputError
from jobs.settings import PROJECT

SCHEMAS = PROJECT / "schemas"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `physical_type` is Spark DDL, `logical_type` an ODCS logical type."""

    name: str
    logical_type: str
    physical_type: str
    required: bool
    primary_key: bool
    description: str


@dataclass(frozen=True, slots=True)
class Contract:
    """One table: columns, key, and quality rules as Great Expectations configurations (`type`, `kwargs`)."""

    name: str
    version: str
    description: str
    columns: tuple[Column, ...]
    rules: tuple[dict[str, Any], ...]

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Columns that tell rows apart, `ds` included for partitioned tables."""
        return tuple(column.name for column in self.columns if column.primary_key)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in contract order."""
        return tuple(column.name for column in self.columns)

    def spark_ddl(self) -> str:
        """Spark DDL of the columns in contract order."""
        return ", ".join(f"{c.name} {c.physical_type}{' NOT NULL' if c.required else ''}" for c in self.columns)

    def spark_schema(self) -> StructType:
        """Spark schema, the caller's own; nullability follows `required`. Needs a running session that parses it."""
        schema = _parsed(self.spark_ddl())
        if not isinstance(schema, StructType):
            raise InputError(f"contract {self.name}: its columns make no table")
        return StructType(list(schema.fields))


@cache
def _parsed(ddl: str) -> DataType:
    return StructType.fromDDL(ddl)


def _rule(raw: dict[str, Any], where: str, column: str | None) -> dict[str, Any]:
    if raw.get("type") != "custom" or raw.get("engine") != "greatExpectations":
        raise InputError(f"{where}: only quality rules of `type: custom`, `engine: greatExpectations` are understood")
    implementation = raw.get("implementation") or {}
    kwargs = dict(implementation.get("kwargs") or {})
    if column is not None:
        kwargs.setdefault("column", column)
    return {"type": implementation["type"], "kwargs": kwargs, "description": raw.get("description", "")}


@cache
def load_contract(name: str, folder: Path = SCHEMAS) -> Contract:
    """Read the contract of table `name`.

    Raises:
        InputError: there is no such contract, or it uses what we do not understand.
    """
    path = folder / f"{name}.odcs.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no contract for table {name}")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    table = document["schema"][0]
    columns: list[Column] = []
    rules: list[dict[str, Any]] = [_rule(raw, str(path), None) for raw in table.get("quality", [])]
    for raw in table["properties"]:
        columns.append(
            Column(
                raw["name"],
                raw["logicalType"],
                raw.get("physicalType", raw["logicalType"]),
                bool(raw.get("required", False)),
                bool(raw.get("primaryKey", False)),
                raw.get("description", ""),
            )
        )
        rules.extend(_rule(rule, f"{path}: {raw['name']}", raw["name"]) for rule in raw.get("quality", []))
    return Contract(table["name"], str(document["version"]), table.get("description", ""), tuple(columns), tuple(rules))


def contract_names(folder: Path = SCHEMAS) -> tuple[str, ...]:
    """Names of all contracts, sorted."""
    return tuple(sorted(path.name.removesuffix(".odcs.yaml") for path in folder.glob("*.odcs.yaml")))
