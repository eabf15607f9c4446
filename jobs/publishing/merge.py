"""One table brought up to date: rows into a temporary table, then what differs is deleted, inserted, updated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import Connection, Table, and_, delete, exists, func, insert, inspect, or_, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import ReflectedColumn

from jobs.errors import ContractError, DongchaError
from jobs.sql_tables import staging_table


@dataclass(frozen=True, slots=True)
class TableChange:
    """What publishing did to the rows of one table."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int

    @property
    def changed(self) -> int:
        """Rows touched: 0 where the same night is published again."""
        return self.inserted + self.updated + self.deleted

    def as_dict(self) -> dict[str, int]:
        """Counts by name."""
        return asdict(self)


def _copy(connection: Connection, stage: Table, batch: pa.RecordBatch) -> None:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise DongchaError("publish: PostgreSQL is spoken to through psycopg only")
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(stage.name), sql.SQL(", ").join(sql.Identifier(c.name) for c in stage.columns)
    )
    columns = [batch.column(c.name).to_pylist() for c in stage.columns]
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in zip(*columns, strict=True):
            copy.write_row(row)


def _fill(connection: Connection, stage: Table, batches: Iterable[pa.RecordBatch]) -> int:
    rows = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        rows += batch.num_rows
        if connection.dialect.name == "postgresql":
            _copy(connection, stage, batch)
        else:
            connection.execute(insert(stage), batch.to_pylist())
    return rows


def _fills_itself(column: ReflectedColumn) -> bool:
    return column["default"] is not None or "identity" in column or "computed" in column


def check_shape(connection: Connection, target: Table) -> None:
    """Make sure the database's table has every column of the contract, its key, and no other that must be filled.

    Raises:
        ContractError: it was made from another version of the contract; the message says how to bring it up to date.
    """
    database = inspect(connection)
    present = {column["name"]: column for column in database.get_columns(target.name)}
    key = [column.name for column in target.primary_key]
    wrong = ""
    if missing := [column.name for column in target.columns if column.name not in present]:
        wrong = f"lacks the column(s) {', '.join(missing)} of its contract: add them"
    elif set(database.get_pk_constraint(target.name)["constrained_columns"]) != set(key):
        wrong = f"has another key than its contract, whose is {', '.join(key)}: change it"
    elif unfilled := [
        name
        for name, column in present.items()
        if name not in target.columns and not column["nullable"] and not _fills_itself(column)
    ]:
        wrong = (
            f"has column(s) that its contract does not know and that may not be empty, {', '.join(unfilled)}: drop them"
        )
    if wrong:
        raise ContractError(
            f"publish: table {target.name} in the CRM's database {wrong}, or drop the table (it is made anew and "
            "filled by `publish`); nothing was published"
        )


def _upsert(connection: Connection, target: Table, stage: Table) -> int:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    key = [column.name for column in target.primary_key]
    # `WHERE true` keeps SQLite's parser from reading ON CONFLICT as a join condition.
    statement = dialect.insert(target).from_select([c.name for c in stage.columns], select(stage).where(true()))
    values = [c.name for c in target.columns if c.name not in key]
    differs = or_(*[target.c[name].is_distinct_from(statement.excluded[name]) for name in values])
    upsert = statement.on_conflict_do_update(
        index_elements=key, set_={name: statement.excluded[name] for name in values}, where=differs
    )
    # SQLAlchemy keeps no row count of an INSERT unless asked to.
    return connection.execute(upsert, execution_options={"preserve_rowcount": True}).rowcount


def merge(connection: Connection, target: Table, batches: Iterable[pa.RecordBatch]) -> TableChange:
    """Make `target` hold the rows of `batches` and no others; rows that are equal already are not touched.

    Args:
        connection: inside the publishing transaction.
        target: the published table; it exists.
        batches: all rows, in columns named as the table's; streamed, one batch in memory at a time.
    """
    stage = staging_table(target)
    stage.create(connection)
    rows = _fill(connection, stage, batches)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {stage.name}")
    same = and_(*[target.c[column.name] == stage.c[column.name] for column in target.primary_key])
    deleted = connection.execute(delete(target).where(~exists().where(same).correlate(target))).rowcount
    known = connection.execute(select(func.count()).select_from(stage.join(target, same))).scalar_one()
    written = _upsert(connection, target, stage)
    stage.drop(connection)
    inserted = rows - known
    return TableChange(inserted, written - inserted, deleted, rows - written)
