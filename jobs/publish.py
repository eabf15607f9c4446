"""Stage publish: the profile tables of a night become what the CRM's database holds, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.engine import URL

from jobs.arrow_tasks import map_in_arrow
from jobs.errors import GateError
from jobs.profiling import PROFILE_TABLES
from jobs.publishing.database import crm_url, locked_transaction
from jobs.publishing.merge import TableChange, check_shape, merge
from jobs.settings import Settings
from jobs.sql_tables import PUBLICATIONS, crm_tables
from jobs.storage import Tables, check_ds
from jobs.taxonomies.store import approved_taxonomy
from jobs.taxonomy import Taxonomy

_PACKED = pa.schema([("packed", pa.binary())])


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What publishing a night changed, by table."""

    ds: str
    tables: Mapping[str, TableChange]

    @property
    def changed(self) -> int:
        """Rows touched in all tables; 0 on a replay."""
        return sum(change.changed for change in self.tables.values())

    def __str__(self) -> str:
        lines = (f"{name} +{c.inserted} ~{c.updated} -{c.deleted} ={c.unchanged}" for name, c in self.tables.items())
        return f"{self.changed} rows changed (+ inserted, ~ updated, - deleted, = unchanged): " + ", ".join(lines)


def _pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        yield pa.RecordBatch.from_pydict({"packed": [sink.getvalue().to_pybytes()]}, schema=_PACKED)


def _stream(frame: DataFrame) -> Iterator[pa.RecordBatch]:
    """The rows of a frame as Arrow batches, one in the driver's memory at a time (toArrow would hold them all)."""
    for row in map_in_arrow(frame, _pack, _PACKED).toLocalIterator():
        with pa.ipc.open_stream(bytes(row["packed"])) as reader:
            yield from reader


def _current(connection: Connection, publications: Table) -> str | None:
    newest = select(publications.c.ds).order_by(publications.c.publication_id.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none()


def publish_batches(
    url: URL,
    ds: str,
    taxonomy: Taxonomy,
    batches: Mapping[str, Iterable[pa.RecordBatch]],
    *,
    force: bool = False,
) -> PublishResult:
    """Make the database's tables hold exactly these rows, all tables in one transaction.

    Args:
        url: the CRM's database.
        ds: the night that the rows are of.
        taxonomy: noted down with the publication.
        batches: rows by table, in contract columns; each is read once, in order.
        force: publish although the database holds a newer night.

    Raises:
        GateError: the database holds a newer night, or there is not one customer.
        ContractError: the database's tables are of an older contract, or a key repeats.
        DongchaError: the database cannot be reached or failed.
    """
    metadata, tables = crm_tables(tuple(batches))
    publications = tables[PUBLICATIONS]
    with locked_transaction(url) as connection:
        metadata.create_all(connection)
        current = _current(connection, publications)
        if current is not None and current > ds and not force:
            raise GateError(
                f"publish {ds}: the CRM's database holds the newer night {current}; nothing was published "
                "(publish that night again, or insist with --force)"
            )
        changes: dict[str, TableChange] = {}
        for name, rows in batches.items():
            check_shape(connection, tables[name])
            changes[name] = merge(connection, tables[name], rows)
        profiles = changes.get("customer_profile")
        if profiles is not None and profiles.inserted + profiles.updated + profiles.unchanged == 0:
            raise GateError(f"publish {ds}: customer_profile has no row, which would empty the CRM; not published")
        result = PublishResult(ds, changes)
        if result.changed or current != ds:
            connection.execute(
                insert(publications).values(
                    ds=ds,
                    taxonomy=taxonomy.name,
                    taxonomy_version=taxonomy.version,
                    counts=json.dumps({name: change.as_dict() for name, change in changes.items()}),
                    published_at=datetime.now(UTC),
                )
            )
    return result


def publish(tables: Tables, settings: Settings, ds: str, *, force: bool = False) -> PublishResult:
    """Publish night `ds`; publishing it again changes no row.

    Raises:
        GateError: `profile` has not written all tables of this night, or a newer night is published already.
        ContractError, DongchaError: see `publish_batches`.
    """
    if missing := [name for name in PROFILE_TABLES if not tables.exists(name, check_ds(ds))]:
        raise GateError(f"publish {ds}: {', '.join(missing)} has no complete night {ds}: run `profile` first")
    taxonomy = approved_taxonomy(settings, ds)
    batches = {name: _stream(tables.read(name, ds)) for name in PROFILE_TABLES}
    return publish_batches(crm_url(settings.crm_url), ds, taxonomy, batches, force=force)
