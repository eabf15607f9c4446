"""The night's benchmark: generated chats are the same twice and readable by ingest; a failed stage is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.bench import night as bench
from jobs.bench.cli import app
from jobs.bench.raw_chats import raw_chats, write_chats
from jobs.conversation import read_conversations
from jobs.errors import DongchaError
from jobs.ingestion.record import RecordLimits, parse_record
from jobs.settings import Settings

NIGHT = bench.NIGHT


def test_generated_chats_come_through_ingest_whole() -> None:
    limits = RecordLimits(20_000, 200_000, b"secret")
    records = list(raw_chats(500, NIGHT, seed=1))
    rows = [parse_record(json.dumps(record).encode(), NIGHT, limits) for record in records]
    assert len({row["conversation_id"] for row in rows}) == 500
    assert 100 < len({row["party_key"] for row in rows}) <= 500 // 3 + 1
    assert len({row["content_hash"] for row in rows}) > 450
    assert records == list(raw_chats(500, NIGHT, seed=1))
    assert records != list(raw_chats(500, NIGHT, seed=2))


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = write_chats(tmp_path, 50, NIGHT, seed=1)
    assert [path] == list(tmp_path.iterdir()) and path.stat().st_size > 50 * 100
    path.write_text("kept", "utf-8")
    assert write_chats(tmp_path, 50, NIGHT, seed=1).read_text("utf-8") == "kept"


def test_generated_chats_for_the_client_can_be_read_as_they_are(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["chats", "--out", str(tmp_path), "--count", "20"])
    assert said.exit_code == 0 and "20 chats in" in said.stdout
    (path,) = tmp_path.iterdir()
    assert len(read_conversations(path)) == 20


def test_a_stage_that_fails_stops_the_benchmark_with_its_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "STAGES", ("no-such-stage",))
    with pytest.raises(DongchaError, match=r"(?s)no-such-stage failed.*No such command"):
        bench.bench_night(settings, 10, embeddings=False, replay=False, say=lambda text: None)


def test_a_stage_is_timed_and_weighed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "STAGES", ("ingest",))
    found = bench.bench_night(settings, 30, embeddings=False, replay=True, say=lambda text: None)
    for name in ("run", "replay"):
        (cost,) = found[name]
        assert cost["stage"] == "ingest" and cost["seconds"] > 1
        # A JVM and two Pythons weigh more than this; forgetting the children would not.
        assert cost["peak_mib"] > 400
        assert cost["per_second"] == pytest.approx(30 / cost["seconds"], abs=0.1)
