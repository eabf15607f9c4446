from __future__ import annotations

import bz2
import gzip
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from jobs.errors import ContractError, GateError, InputError
from jobs.ingest import ingest
from jobs.ingestion import source
from jobs.quality import check_table
from jobs.settings import Settings
from jobs.storage import Tables

pytestmark = pytest.mark.spark
NIGHT = "2026-11-20"


def chat(identifier: str, user: str = "wm1", text: str = "理财到期了", **changes: Any) -> bytes:
    return json.dumps(
        {
            "conversation_id": identifier,
            "channel": "wecom",
            "channel_user_id": user,
            "started_at": f"{NIGHT}T10:00:00+08:00",
            "turns": [{"speaker": "customer", "text": text}],
        }
        | changes,
        ensure_ascii=False,
    ).encode()


def put(settings: Settings, lines: list[bytes], night: str = NIGHT, name: str = "a.jsonl") -> Path:
    folder = Path(settings.source.path.format(ds=night))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"\n".join(lines))
    return folder / name


def test_rows_add_up_and_quarantine_points_at_the_line(tables: Tables, settings: Settings) -> None:
    lines = [chat("c1"), b"not json", chat("c2"), chat("c1", text="again"), chat("c3", turns=[])]
    file = put(settings, lines)
    result = ingest(tables, settings, NIGHT)
    assert (result.read, result.conversations, result.quarantined) == (5, 2, 3)
    rows = tables.read("quarantine", NIGHT).collect()
    assert Counter(r["reason"] for r in rows) == {"not_json": 1, "repeated_id": 1, "no_turns": 1}
    bad = next(r for r in rows if r["reason"] == "not_json")
    assert file.read_bytes()[bad["position"] :].startswith(b"not json")
    kept = {r["conversation_id"]: r["turns"][0]["text"] for r in tables.read("conversations", NIGHT).collect()}
    assert kept == {"c1": "理财到期了", "c2": "理财到期了"}
    for name in ("conversations", "quarantine", "identities"):
        assert check_table(tables, name, NIGHT, settings.var_dir / "checks") > 0


def test_running_twice_changes_nothing_and_other_nights_stay(tables: Tables, settings: Settings) -> None:
    put(settings, [chat("old", started_at="2026-11-19T10:00:00+08:00")], "2026-11-19")
    put(settings, [chat("c1"), b"bad"])
    ingest(tables, settings, "2026-11-19")
    ingest(tables, settings, NIGHT)
    before = sorted(map(str, tables.read_all("conversations").collect() + tables.read_all("quarantine").collect()))
    put(settings, [chat("c1"), b"bad"])
    ingest(tables, settings, NIGHT)
    after = sorted(map(str, tables.read_all("conversations").collect() + tables.read_all("quarantine").collect()))
    assert before == after
    # A night that gets clean input later must not keep yesterday's quarantine.
    put(settings, [chat("c1")])
    ingest(tables, settings, NIGHT)
    assert tables.read("quarantine", NIGHT).count() == 0


def test_channels_of_one_person_become_one_customer(tables: Tables, settings: Settings, tmp_path: Path) -> None:
    links = tmp_path / "links.jsonl"
    linked = {"id_type": "wecom", "id": "wm1", "linked_type": "phone", "linked_id": "13812345678"}
    late = {"ds": "2026-11-21", "id_type": "wecom", "id": "wm2", "linked_type": "phone", "linked_id": "13812345678"}
    links.write_text(json.dumps(linked) + "\n" + json.dumps(late) + "\n")
    settings = settings.model_copy(update={"source": settings.source.model_copy(update={"identities": str(links)})})
    lines = [chat("c1"), chat("c2", user="138 1234 5678", channel="phone"), chat("c3", user="wm2")]
    put(settings, lines)
    put(settings, [chat("c4", user="wm9", started_at="2026-11-21T10:00:00+08:00")], "2026-11-21")

    def customers(night: str) -> dict[str, str]:
        party = {r["conversation_id"]: r["party_key"] for r in tables.read("conversations", NIGHT).collect()}
        one = {r["party_key"]: r["customer_id"] for r in tables.read("identities", night).collect()}
        return {c: one[p] for c, p in party.items()}

    ingest(tables, settings, NIGHT)
    first = customers(NIGHT)
    assert first["c1"] == first["c2"] != first["c3"]
    ingest(tables, settings, "2026-11-21")
    second = customers("2026-11-21")
    assert second["c1"] == second["c2"] == second["c3"]
    assert second["c1"] in first.values()


def test_a_night_without_conversations_fails(tables: Tables, settings: Settings) -> None:
    with pytest.raises(InputError, match="no chats for 2026-11-20"):
        ingest(tables, settings, NIGHT)
    file = put(settings, [b"bad", b"worse"])
    with pytest.raises(
        GateError, match=r"no conversation came through \(2 not_json; the first lies at 0 of a\.jsonl: "
    ):
        ingest(tables, settings, NIGHT)
    file.rename(file.with_name("_a.jsonl"))
    (file.parent / "a.csv").write_bytes(chat("c1"))
    with pytest.raises(InputError, match=r"no chats for 2026-11-20: .* has no file of JSON Lines"):
        ingest(tables, settings, NIGHT)
    parquet = settings.model_copy(update={"source": settings.source.model_copy(update={"kind": "parquet"})})
    shutil.rmtree(file.parent)
    file.parent.mkdir()
    with pytest.raises(InputError, match=r"no chats for 2026-11-20: .* holds no Parquet"):
        ingest(tables, parquet, NIGHT)


def test_writing_that_is_cut_off_leaves_the_night_as_it_was(tables: Tables, settings: Settings) -> None:
    put(settings, [chat("c1"), chat("c2")])
    ingest(tables, settings, NIGHT)
    broken = tables.read("conversations", NIGHT).withColumn("channel", F.raise_error(F.lit("cut off")).cast("string"))
    with pytest.raises(Exception, match="cut off"):
        tables.write("conversations", broken, NIGHT)
    assert tables.read("conversations", NIGHT).count() == tables.read_all("conversations").count() == 2
    assert tables.write("conversations", tables.read("conversations", NIGHT).limit(1), NIGHT) == 1
    assert tables.read_all("conversations").count() == 1
    assert [path.name for path in tables.path("conversations").iterdir()] == [f"ds={NIGHT}"]


def test_a_failed_replay_leaves_the_night_as_it_was(tables: Tables, settings: Settings, tmp_path: Path) -> None:
    def night() -> list[str]:
        names = ("conversations", "quarantine", "identity_links", "identities")
        return [str(row) for name in names for row in tables.read(name, NIGHT).collect()]

    put(settings, [chat("c1"), b"bad"])
    ingest(tables, settings, NIGHT)
    before = night()
    put(settings, [chat("c1").decode().encode("gbk")])
    with pytest.raises(GateError, match="no conversation came through"):
        ingest(tables, settings, NIGHT)
    assert night() == before
    put(settings, [chat("c2")])
    (tmp_path / "links.jsonl").write_text("cut off")
    source = settings.source.model_copy(update={"identities": str(tmp_path / "links.jsonl")})
    with pytest.raises(InputError, match=r"links\.jsonl:1: not JSON"):
        ingest(tables, settings.model_copy(update={"source": source}), NIGHT)
    assert night() == before


def test_every_file_of_lines_is_read_and_has_a_name_of_its_own(tables: Tables, settings: Settings) -> None:
    folder = put(settings, [chat("c1")], name="A.JSONL").parent
    for channel in ("app", "wecom"):
        (folder / channel).mkdir()
        (folder / channel / "part-0.jsonl").write_bytes(b"bad\n" + chat(channel))
    packed = gzip.compress(chat("c2") + b"\n") + gzip.compress(b"worse\n" + chat("c3"))
    (folder / "b.jsonl.gz").write_bytes(packed)
    (folder / "c.ndjson.bz2").write_bytes(bz2.compress(chat("c4")))
    (folder / "readme.txt").write_text("not chats")
    for hidden in ("_temporary/0/part-0.jsonl", ".a.jsonl.swp", "._a.jsonl"):
        (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
        (folder / hidden).write_bytes(chat(hidden))
    result = ingest(tables, settings, NIGHT)
    assert (result.conversations, result.quarantined) == (6, 3)
    assert result.left_alone == ("readme.txt",)
    bad = {row["source"]: row["position"] for row in tables.read("quarantine", NIGHT).collect()}
    assert bad == {"app/part-0.jsonl": 0, "wecom/part-0.jsonl": 0, "b.jsonl.gz": len(chat("c2")) + 1}
    assert gzip.decompress(packed)[bad["b.jsonl.gz"] :].startswith(b"worse")
    assert check_table(tables, "quarantine", NIGHT, settings.var_dir / "checks") > 0


def test_an_emptied_night_is_none_of_the_window(settings: Settings) -> None:
    put(settings, [chat("c1")], "2026-11-18")
    put(settings, [], "2026-11-19").unlink()
    assert source.nights_of_window(settings, NIGHT) == ["2026-11-18", NIGHT]


def test_a_path_with_another_placeholder_names_the_setting(settings: Settings) -> None:
    wrong = settings.source.model_copy(update={"path": settings.source.path.replace("{ds}", "{date}")})
    with pytest.raises(InputError, match=r"\{date\} does not exist \(source\.path"):
        source.left_alone(settings.model_copy(update={"source": wrong}), NIGHT)


def test_large_files_are_cut_into_ranges_without_losing_lines(
    tables: Tables, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(settings, [chat(f"c{i}", text="字" * (i % 50 + 1)) for i in range(300)])
    monkeypatch.setattr(source, "_SPLIT_BYTES", 777)
    reader = source._LineReader({"path": file.parent.as_uri()})
    parts = reader.partitions()
    assert len(parts) > 30
    raws = [raw for part in parts for batch in reader.read(part) for raw in batch.column("raw").to_pylist()]
    assert raws == file.read_bytes().split(b"\n")


def test_parquet_source(tables: Tables, settings: Settings, tmp_path: Path) -> None:
    rows = [json.loads(chat(f"c{i}")) for i in range(3)] + [json.loads(chat("c4", turns=[]))]
    target = str(tmp_path / "parquet" / NIGHT)
    tables.spark.createDataFrame(
        [(r["conversation_id"], r["channel"], r["channel_user_id"], r["started_at"], r["turns"]) for r in rows],
        "conversation_id string, channel string, channel_user_id string, started_at string, "
        "turns array<struct<speaker:string,text:string>>",
    ).write.parquet(target)
    changed = settings.source.model_copy(update={"kind": "parquet", "path": str(tmp_path / "parquet" / "{ds}")})
    result = ingest(tables, settings.model_copy(update={"source": changed}), NIGHT)
    assert (result.conversations, result.quarantined) == (3, 1)


def test_times_of_a_database_are_read_like_those_of_files(tables: Tables, settings: Settings, tmp_path: Path) -> None:
    url, jvm = "jdbc:derby:memory:chats;create=true", tables.spark._jvm
    assert jvm is not None
    jvm.java.lang.System.setProperty("derby.stream.error.file", str(tmp_path / "derby.log"))
    driver = "org.apache.derby.iapi.jdbc.AutoloadedDriver"
    jvm.java.lang.Class.forName(driver)
    connection = jvm.java.sql.DriverManager.getConnection(url)
    statement = connection.createStatement()
    names = ("conversation_id", "channel", "channel_user_id", "turns", "ds")
    columns = ", ".join(f'"{name}" varchar(200)' for name in names)
    statement.execute(f'create table chats ({columns}, "started_at" timestamp)')
    values = ["c1", "wecom", "wm1", json.dumps([{"speaker": "customer", "text": "hello"}]), NIGHT, f"{NIGHT} 17:30:00"]
    statement.execute(f"insert into chats values ({', '.join(repr(value) for value in values)})")
    changed = {"kind": "jdbc", "jdbc_url": url, "jdbc_table": "chats", "jdbc_driver": driver}
    settings = settings.model_copy(update={"source": settings.source.model_copy(update=changed)})
    zone = jvm.java.util.TimeZone.getDefault()
    # A machine far from China: 17:30 there is the day after.
    jvm.java.util.TimeZone.setDefault(jvm.java.util.TimeZone.getTimeZone("America/New_York"))
    try:
        assert ingest(tables, settings, NIGHT).quarantined == 0
    finally:
        jvm.java.util.TimeZone.setDefault(zone)
        connection.close()
    (row,) = tables.read("conversations", NIGHT).selectExpr("CAST(started_at AS STRING) AS at").collect()
    assert row["at"] == "2026-11-20 09:30:00"


def test_a_database_that_cannot_be_read_names_the_settings(tables: Tables, settings: Settings) -> None:
    wrong = {"kind": "jdbc", "jdbc_url": "jdbc:nobody://h/x?password=hush", "jdbc_table": "chats"}
    settings = settings.model_copy(update={"source": settings.source.model_copy(update=wrong)})
    with pytest.raises(
        InputError, match=r"source\.jdbc_table chats cannot be read \(.*driver.*\): .*jdbc_driver"
    ) as caught:
        ingest(tables, settings, NIGHT)
    assert "hush" not in str(caught.value)


def test_a_broken_contract_names_rule_and_rows(tables: Tables, settings: Settings) -> None:
    put(settings, [chat("c1"), chat("c2")])
    ingest(tables, settings, NIGHT)
    frame = tables.read("conversations", NIGHT).localCheckpoint()
    tables.write("conversations", frame.replace(frame.collect()[0]["party_key"], "leaked-phone", ["party_key"]), NIGHT)
    with pytest.raises(ContractError) as caught:
        check_table(tables, "conversations", NIGHT, settings.var_dir / "checks")
    assert "party_key" in str(caught.value)
    assert '"conversation_id": "c1"' in str(caught.value)
    tables.write("conversations", frame.unionAll(frame.limit(1)), NIGHT)
    with pytest.raises(ContractError, match="key tells every row apart"):
        check_table(tables, "conversations", NIGHT, settings.var_dir / "checks")
