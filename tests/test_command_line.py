"""`python -m jobs`: every stage of a night starts one, so it starts without what most of them do not need."""

from __future__ import annotations

import json
import subprocess
import sys

from jobs.settings import PROJECT

HEAVY = ("sklearn", "scipy", "pandas", "openai", "pyarrow", "great_expectations", "mlflow", "sqlalchemy", "matplotlib")


def test_it_starts_without_libraries_that_take_long_to_import() -> None:
    script = f"import json, sys, jobs.cli; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, encoding="utf-8", check=True
    )
    assert json.loads(done.stdout) == []
