from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy import MetaData, Table, create_engine, inspect, select, text
from sqlalchemy.engine import URL, make_url

from jobs.contracts import load_contract
from jobs.errors import ContractError, DongchaError, GateError, InputError
from jobs.profile import profile
from jobs.profiling import PROFILE_TABLES
from jobs.publish import PublishResult, publish, publish_batches
from jobs.publishing.database import crm_url, locked_transaction, shown
from jobs.publishing.merge import TableChange
from jobs.settings import PROJECT, PublishSettings, Settings, load_settings
from jobs.sql_tables import PUBLICATIONS, crm_tables
from jobs.storage import Tables
from jobs.taxonomy import load_taxonomy
from tests.postgres import PASSWORD, postgres_database, postgres_server
from tests.profile_facts import FIRST, SECOND, THIRD, Tag, Talk, customer, money, write_labels, write_night

TAXONOMY = load_taxonomy(PROJECT / "taxonomies" / "wealth-advisory.yaml")
AWKWARD = "a\tb\\N\n'; DROP TABLE customer_tags;-- \\. “引号” 😀 NULL"


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def crm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty CRM database of either kind."""
    if request.param == "sqlite":
        yield make_url(f"sqlite:///{tmp_path / 'new' / 'crm.sqlite'}")
    else:
        with postgres_database(request.getfixturevalue("server")) as url:
            yield url


def batch(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    kinds = {"string": pa.string(), "int": pa.int32(), "double": pa.float64()}
    schema = pa.schema([(c.name, kinds[c.physical_type]) for c in load_contract(name).columns])
    return pa.RecordBatch.from_pylist([dict(row) for row in rows], schema=schema)


def person(number: int, **values: Any) -> dict[str, Any]:
    return {
        "customer_id": f"C{number:016x}",
        "first_contact": FIRST,
        "last_contact": FIRST,
        "conversations": 1,
        "channels": "wecom",
        "tags": "",
        "open_intents": 0,
        **values,
    }


def moment(number: int, talk: str, **values: Any) -> dict[str, Any]:
    return {
        "customer_id": f"C{number:016x}",
        "conversation_id": talk,
        "conversation_ds": FIRST,
        "tag_id": "maturity",
        "happened_at": f"{FIRST}T09:00:00Z",
        "channel": "wecom",
        "confidence": 0.1 + 0.2,
        "evidence": None,
        "quality": "met",
        **values,
    }


def send(url: URL, ds: str, people: list[Any], moments: list[Any], force: bool = False) -> PublishResult:
    # Several batches a table, one of them empty: rows arrive in pieces.
    batches = {
        "customer_profile": [batch("customer_profile", people[:1]), batch("customer_profile", people[1:])],
        "customer_timeline": [batch("customer_timeline", []), batch("customer_timeline", moments)],
    }
    return publish_batches(url, ds, TAXONOMY, batches, force=force)


def content(url: URL, name: str) -> list[dict[str, Any]]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(name):
                return []
            table = Table(name, MetaData(), autoload_with=connection)
            found = connection.execute(select(table).order_by(*table.primary_key)).mappings().all()
            return [dict(row) for row in found]
    finally:
        engine.dispose()


def test_rows_arrive_unharmed_and_a_replay_changes_nothing(crm: URL) -> None:
    people = [person(1, tags=AWKWARD), person(2)]
    moments = [moment(1, "t1", evidence=AWKWARD), moment(1, "t2")]
    result = send(crm, FIRST, people, moments)
    assert result.tables == {
        "customer_profile": TableChange(2, 0, 0, 0),
        "customer_timeline": TableChange(2, 0, 0, 0),
    }
    [first, second] = content(crm, "customer_timeline")
    assert (first["evidence"], second["evidence"]) == (AWKWARD, None)
    assert first["confidence"] == 0.1 + 0.2
    assert content(crm, "customer_profile")[0]["tags"] == AWKWARD

    again = send(crm, FIRST, people, moments)
    assert again.changed == 0
    assert again.tables["customer_profile"].unchanged == 2
    [publication] = content(crm, PUBLICATIONS)
    assert (publication["ds"], publication["taxonomy"], publication["taxonomy_version"]) == (FIRST, TAXONOMY.name, 1)


def test_next_night_touches_only_what_differs(crm: URL) -> None:
    send(crm, FIRST, [person(1), person(2), person(3)], [moment(1, "t1"), moment(2, "t2", evidence="早")])
    version = "xmin" if crm.get_backend_name() == "postgresql" else "rowid"

    def versions() -> dict[str, Any]:
        engine = create_engine(crm)
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT customer_id, {version} FROM customer_profile")).all()
        engine.dispose()
        return {row[0]: str(row[1]) for row in rows}

    before = versions()
    result = send(
        crm,
        SECOND,
        [person(1), person(2, tags="complaint"), person(4)],
        [moment(1, "t1"), moment(2, "t2", evidence=None), moment(4, "t4")],
    )
    assert result.tables["customer_profile"] == TableChange(inserted=1, updated=1, deleted=1, unchanged=1)
    assert result.tables["customer_timeline"] == TableChange(inserted=1, updated=1, deleted=0, unchanged=1)
    assert versions()[f"C{1:016x}"] == before[f"C{1:016x}"]
    assert [row["customer_id"][-1] for row in content(crm, "customer_profile")] == ["1", "2", "4"]
    assert [row["ds"] for row in content(crm, PUBLICATIONS)] == [FIRST, SECOND]


def test_an_old_night_does_not_go_over_a_newer_one_unless_forced(crm: URL) -> None:
    send(crm, SECOND, [person(1), person(2)], [])
    with pytest.raises(GateError, match=f"holds the newer night {SECOND}"):
        send(crm, FIRST, [person(1)], [])
    assert len(content(crm, "customer_profile")) == 2
    assert send(crm, FIRST, [person(1)], [], force=True).tables["customer_profile"].deleted == 1
    assert send(crm, SECOND, [person(1), person(2)], []).tables["customer_profile"].inserted == 1


def test_a_night_without_customers_does_not_empty_the_crm(crm: URL) -> None:
    send(crm, FIRST, [person(1)], [])
    with pytest.raises(GateError, match="would empty the CRM"):
        send(crm, SECOND, [], [])
    assert len(content(crm, "customer_profile")) == 1


def test_a_failure_in_the_second_table_takes_the_first_one_back(crm: URL) -> None:
    send(crm, FIRST, [person(1)], [moment(1, "t1")])
    secret = "C-darf-nicht-erscheinen"
    twice = [moment(2, secret), moment(2, secret)]
    with pytest.raises(ContractError, match="a row was refused") as refused:
        send(crm, SECOND, [person(1, tags="complaint"), person(2)], twice)
    assert secret not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert [row["tags"] for row in content(crm, "customer_profile")] == [""]
    assert [row["conversation_id"] for row in content(crm, "customer_timeline")] == ["t1"]
    assert len(content(crm, PUBLICATIONS)) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_publish import SECOND, TAXONOMY, batch, moment, person
from jobs.publish import publish_batches
from sqlalchemy.engine import make_url

def moments():
    yield batch("customer_timeline", [moment(9, "t9")])
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

rows = {{"customer_profile": [batch("customer_profile", [person(9)])], "customer_timeline": moments()}}
publish_batches(make_url(sys.stdin.read()), SECOND, TAXONOMY, rows)
"""


def test_a_publish_killed_midway_leaves_the_old_state(crm: URL) -> None:
    send(crm, FIRST, [person(1)], [moment(1, "t1")])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(tests=str(Path(__file__).parent))],
        input=crm.render_as_string(hide_password=False),
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        check=False,
    )
    assert (killed.returncode, killed.stdout.strip()) == (-signal.SIGKILL, "killed"), killed.stderr
    assert [row["customer_id"] for row in content(crm, "customer_profile")] == [f"C{1:016x}"]
    # The lock died with the process: the next publish goes through.
    assert send(crm, SECOND, [person(9)], [moment(9, "t9")]).changed == 4


def test_two_publishes_do_not_interleave(crm: URL) -> None:
    send(crm, FIRST, [person(1)], [])
    inside, leave = threading.Event(), threading.Event()

    def slow_rows() -> Iterator[pa.RecordBatch]:
        yield batch("customer_profile", [person(2)])
        inside.set()
        leave.wait(30)

    first = threading.Thread(
        target=publish_batches, args=(crm, SECOND, TAXONOMY, {"customer_profile": slow_rows()}), daemon=True
    )
    first.start()
    try:
        assert inside.wait(30)
        with pytest.raises(DongchaError, match=r"lock.*nothing was published"), locked_transaction(crm, 1):
            pytest.fail("two publishes at once")
        # Readers see the old night meanwhile.
        assert [row["customer_id"] for row in content(crm, "customer_profile")] == [f"C{1:016x}"]
    finally:
        leave.set()
        first.join(30)
    assert [row["customer_id"] for row in content(crm, "customer_profile")] == [f"C{2:016x}"]


def test_a_table_of_an_older_contract_is_named(crm: URL) -> None:
    send(crm, FIRST, [person(1)], [])
    engine = create_engine(crm)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE customer_profile DROP COLUMN open_intents"))
    engine.dispose()
    with pytest.raises(ContractError, match=r"customer_profile .* lacks the column\(s\) open_intents"):
        send(crm, SECOND, [person(1)], [])


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        (
            ("DROP TABLE customer_profile", "CREATE TABLE customer_profile (customer_id TEXT NOT NULL, {columns})"),
            "customer_profile .* has another key than its contract, whose is customer_id",
        ),
        (
            (
                "DROP TABLE customer_profile",
                "CREATE TABLE customer_profile (customer_id TEXT PRIMARY KEY, vip TEXT NOT NULL, {columns})",
            ),
            r"customer_profile .* that may not be empty, vip: drop them",
        ),
    ],
)
def test_a_table_that_rows_could_not_go_to_is_named(crm: URL, changes: tuple[str, ...], wrong: str) -> None:
    send(crm, FIRST, [person(1)], [])
    names = [name for name in load_contract("customer_profile").column_names if name != "customer_id"]
    engine = create_engine(crm)
    with engine.begin() as connection:
        for change in changes:
            connection.execute(text(change.format(columns=", ".join(f"{name} TEXT" for name in names))))
    engine.dispose()
    with pytest.raises(ContractError, match=wrong):
        send(crm, SECOND, [person(1)], [])


def test_tables_follow_the_contracts() -> None:
    _, tables = crm_tables(PROFILE_TABLES)
    for name in PROFILE_TABLES:
        contract, table = load_contract(name), tables[name]
        assert tuple(table.columns.keys()) == contract.column_names
        assert {c.name for c in table.primary_key} == set(contract.primary_key)
        assert {c.name for c in table.columns if not c.nullable} == {c.name for c in contract.columns if c.required}
    with pytest.raises(InputError, match="cannot go to SQL"):
        crm_tables(["labels"])


def test_a_password_among_the_options_stays_secret_too() -> None:
    url = make_url("postgresql+psycopg://127.0.0.1:1/db?user=u&password=s3cret")
    assert shown(url) == "postgresql+psycopg://127.0.0.1:1/db"
    with pytest.raises(DongchaError) as caught, locked_transaction(url):
        pass
    assert "s3cret" not in str(caught.value)


def test_secrets_of_the_url_stay_secret(server: URL) -> None:
    wrong = server.set(password="falsch-und-geheim")
    with pytest.raises(DongchaError) as refused:
        send(wrong, FIRST, [person(1)], [])
    assert "falsch-und-geheim" not in str(refused.value)
    assert "nothing was published" in str(refused.value)
    with pytest.raises(DongchaError) as unreachable:
        send(server.set(port=1), FIRST, [person(1)], [])
    assert PASSWORD not in str(unreachable.value)
    for bad in ("mysql://u:streng-geheim@h/d", "no url streng-geheim", "postgresql+pg8000://u:streng-geheim@h/d"):
        with pytest.raises(InputError) as unusable:
            crm_url(bad)
        assert "streng-geheim" not in str(unusable.value)
    assert crm_url(load_settings().crm_url).get_backend_name() == "sqlite"


def with_crm(settings: Settings, url: URL) -> Settings:
    secret = SecretStr(url.render_as_string(hide_password=False))
    return settings.model_copy(update={"publish": PublishSettings(url=secret)})


def test_from_facts_to_both_databases_and_through_a_merge_of_customers(
    tables: Tables, settings: Settings, server: URL
) -> None:
    with pytest.raises(GateError, match="run `profile` first"):
        publish(tables, settings, FIRST)
    early = [
        Talk("t1", "wecom-7", (Tag("growth", parameters=money(300_000.0)), Tag("complaint"))),
        Talk("t2", "app-7", (Tag("growth", parameters=money(300_000.0)),), channel="app", hour=11),
        Talk("t3", "other"),
    ]
    write_night(tables, FIRST, early, {name: name for name in ("wecom-7", "app-7", "other")})
    profile(tables, settings, FIRST)
    # On the next night the two ids turn out to be one customer, and t3 is labelled anew.
    write_night(tables, SECOND, [Talk("t4", "app-7")], {"wecom-7": "wecom-7", "app-7": "wecom-7", "other": "other"})
    write_labels(tables, SECOND, [Talk("t3", "other", (Tag("maturity"),))], conversation_ds=FIRST)
    profile(tables, settings, SECOND)

    with postgres_database(server) as url:
        for chosen in (settings, with_crm(settings, url)):
            target = crm_url(chosen.crm_url)
            first = publish(tables, chosen, FIRST)
            assert {name: change.inserted for name, change in first.tables.items()} == {
                "customer_profile": 3,
                "customer_tags": 3,
                "customer_timeline": 1,
                "investment_intents": 2,
            }
            assert publish(tables, chosen, FIRST).changed == 0
            pots = content(target, "investment_intents")

            second = publish(tables, chosen, SECOND)
            assert second.tables["customer_profile"].deleted == 1
            assert {row["customer_id"] for row in content(target, "customer_profile")} == {
                customer("wecom-7"),
                customer("other"),
            }
            [merged] = content(target, "investment_intents")
            assert merged["customer_id"] == customer("wecom-7")
            assert merged["intent_id"] in {row["intent_id"] for row in pots}
            assert merged["mentions"] == 2
            assert publish(tables, chosen, SECOND).changed == 0
            with pytest.raises(GateError, match="newer night"):
                publish(tables, chosen, FIRST)
            with pytest.raises(GateError, match="no complete night"):
                publish(tables, chosen, THIRD)
