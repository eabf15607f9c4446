"""The CRM's tables in SQLAlchemy Core, built from the contracts: one definition for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

from jobs.contracts import Contract, load_contract
from jobs.errors import InputError

PUBLICATIONS = "dongcha_publications"
_STAGE = "dongcha_stage_"
_TYPES: dict[str, type[TypeEngine[str] | TypeEngine[int] | TypeEngine[float] | TypeEngine[bool]]] = {
    "string": Text,
    "int": Integer,
    "double": Double,
    "boolean": Boolean,
}


def _columns(contract: Contract) -> list[Column[object]]:
    columns: list[Column[object]] = []
    for column in contract.columns:
        kind = _TYPES.get(column.physical_type)
        if kind is None:
            raise InputError(
                f"contract {contract.name}: column {column.name} of type {column.physical_type} "
                f"cannot go to SQL; use {', '.join(_TYPES)}"
            )
        columns.append(Column(column.name, kind(), nullable=not column.required, comment=column.description))
    return columns


def crm_tables(names: Sequence[str]) -> tuple[MetaData, dict[str, Table]]:
    """The published tables of these contracts, and the log of publications, in one MetaData.

    Raises:
        InputError: a contract has no key, nothing but a key, or a column that SQL cannot hold.
    """
    metadata = MetaData()
    tables: dict[str, Table] = {}
    for name in names:
        contract = load_contract(name)
        if not contract.primary_key:
            raise InputError(f"contract {name} has no primary key: its rows could not be told apart in SQL")
        if len(contract.primary_key) == len(contract.columns):
            raise InputError(f"contract {name} has nothing but its key: there would be nothing to update in SQL")
        key = PrimaryKeyConstraint(*contract.primary_key, name=f"pk_{name}")
        tables[name] = Table(name, metadata, *_columns(contract), key, comment=contract.description)
    tables[PUBLICATIONS] = Table(
        PUBLICATIONS,
        metadata,
        Column("publication_id", Integer, primary_key=True, autoincrement=True),
        Column("ds", Text, nullable=False, comment="Night that was published."),
        Column("taxonomy", Text, nullable=False),
        Column("taxonomy_version", Integer, nullable=False),
        Column("counts", Text, nullable=False, comment="JSON: rows inserted, updated, deleted, unchanged a table."),
        Column("published_at", DateTime(timezone=True), nullable=False, comment="UTC."),
        comment="What was published when; the newest row says what the tables hold.",
    )
    return metadata, tables


def staging_table(target: Table) -> Table:
    """A temporary table shaped like `target`, of the same key; PostgreSQL drops it at the end of the transaction."""
    columns: list[Column[object]] = [Column(c.name, c.type, nullable=c.nullable) for c in target.columns]
    key = PrimaryKeyConstraint(*[c.name for c in target.primary_key])
    return Table(_STAGE + target.name, MetaData(), *columns, key, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")
