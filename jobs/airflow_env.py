"""Airflow's environment: everything under `var`, nothing on the network but the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jobs.errors import DongchaError
from jobs.settings import PROJECT, Settings


def airflow_env(settings: Settings) -> dict[str, str]:
    """The environment that `airflow` commands run in (this process's, with Airflow's settings over it)."""
    home = settings.var_dir / "airflow"
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MP_START_METHOD": "spawn",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__EXPOSE_CONFIG": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "DONGCHA_PYTHON": sys.executable,
    }
    # Deployments that bring their own Airflow settings keep them.
    return {**os.environ, **{key: os.environ.get(key, value) for key, value in own.items()}}


def airflow_command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `airflow ARGUMENTS` with its output passed through."""
    executable = Path(sys.executable).parent / "airflow"
    return subprocess.run([str(executable), *arguments], env=airflow_env(settings), cwd=PROJECT, check=False)


def prepare_airflow(settings: Settings) -> None:
    """Make Airflow's database and the pool that bounds use of the LLM endpoint; quick where both are there.

    Raises:
        DongchaError: Airflow said no; its own message is above.
    """
    home = settings.var_dir / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    stamp = home / "prepared"
    if stamp.is_file():
        return
    for arguments in (("db", "migrate"), ("pools", "set", "llm", "1", "One stage at a time at the LLM endpoint")):
        if airflow_command(settings, *arguments).returncode:
            raise DongchaError(f"airflow {' '.join(arguments)} failed")
    stamp.touch()
