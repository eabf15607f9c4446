"""How a DAG runs a stage: one `python -m jobs …` in its own process, nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator

PROJECT = Path(__file__).resolve().parent.parent
# The interpreter that runs Airflow also runs the jobs, unless the deployment says otherwise.
PYTHON = os.environ.get("DONGCHA_PYTHON", sys.executable)

# `airflow dags test` has no scheduler that would wait for a retry: the demo and the tests set 0.
RETRIES = int(os.environ.get("DONGCHA_TASK_RETRIES", "2"))
DEFAULT_ARGS: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay": timedelta(minutes=5),
    "retry_exponential_backoff": True,
}


def stage(command: str, *, task_id: str | None = None, **options: Any) -> BashOperator:
    """A task that runs `python -m jobs COMMAND --ds <the run's night>`.

    `command` is written by the DAG's author; the only thing filled in at run time is `ds`, a date.
    """
    return BashOperator(
        task_id=task_id or command.replace(" ", "_").replace("-", "_"),
        bash_command=f"exec {shlex.quote(PYTHON)} -m jobs {command} --ds {{{{ ds }}}}",
        cwd=str(PROJECT),
        append_env=True,
        **options,
    )


def output_of(command: str, ds: str) -> str:
    """What `python -m jobs COMMAND --ds DS` prints, for a page to read; it is not logged.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    line = [PYTHON, "-m", "jobs", *shlex.split(command), "--ds", ds]
    return subprocess.run(line, cwd=PROJECT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
