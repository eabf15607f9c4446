"""`python -m jobs`: every stage of a night starts one, so it starts without what most of them do not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.settings import PROJECT

HEAVY = ("sklearn", "scipy", "pandas", "openai", "pyarrow", "great_expectations", "mlflow", "sqlalchemy", "matplotlib")


def test_it_starts_without_libraries_that_take_long_to_import() -> None:
    script = f"import json, sys, jobs.cli; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, encoding="utf-8", check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.spark
@pytest.mark.parametrize("wrong", [{"DONGCHA_SPARK__MASTER": "lokal"}, {"DONGCHA_SPARK__DRIVER_MEMORY": "lots"}])
def test_a_spark_that_does_not_start_is_said_without_a_traceback(wrong: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "score", "--ds", "2026-11-20"],
        cwd=PROJECT,
        env=os.environ | {"DONGCHA_VAR": str(tmp_path)} | wrong,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "Spark does not start: [JAVA_GATEWAY_EXITED]" in done.stderr
    assert "spark.master" in done.stderr
    assert "Traceback" not in done.stderr
