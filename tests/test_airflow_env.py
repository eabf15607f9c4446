from __future__ import annotations

from pathlib import Path

import pytest

from jobs.airflow_env import airflow_env
from jobs.settings import Settings


def test_tasks_report_to_the_port_that_the_api_listens_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(var=tmp_path)
    monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
    monkeypatch.delenv("AIRFLOW__API__PORT", raising=False)
    assert airflow_env(settings)["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8080"
    monkeypatch.setenv("AIRFLOW__API__PORT", "8090")
    assert airflow_env(settings)["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8090"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    assert airflow_env(settings)["AIRFLOW__API__BASE_URL"] == "https://airflow.example/", "a deployment's own is kept"
