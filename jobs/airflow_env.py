"""Airflow's environment: everything under `var`, nothing on the network but the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from jobs.airflow_log import readable
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
        # Tasks report there: without it a port of one's own leaves them talking to 8080.
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{os.environ.get('AIRFLOW__API__PORT', '8080')}",
        "AIRFLOW__API__EXPOSE_CONFIG": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "DONGCHA_PYTHON": sys.executable,
    }
    # Deployments that bring their own Airflow settings keep them.
    env = {**os.environ, **{key: os.environ.get(key, value) for key, value in own.items()}}
    # `standalone` starts its parts as `airflow`, also where this environment was not activated.
    return env | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])}


def airflow_command(settings: Settings, *arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[bytes]:
    """Run `airflow ARGUMENTS` with its output passed through, or (`quiet`) kept in the result's `stdout`."""
    executable = Path(sys.executable).parent / "airflow"
    return subprocess.run(
        [str(executable), *arguments],
        env=airflow_env(settings),
        cwd=PROJECT,
        check=False,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )


def runs_stages(arguments: Sequence[str]) -> bool:
    """Whether `airflow ARGUMENTS` runs tasks on this machine, so that a shared Spark is worth its start."""
    return tuple(arguments[:1]) in (("standalone",), ("scheduler",)) or tuple(arguments[:2]) == ("dags", "test")


def run_dag(
    settings: Settings,
    dag_id: str,
    ds: str,
    show: Callable[[str], None],
    params: Mapping[str, bool] | None = None,
) -> None:
    """Run one night of a DAG with `airflow dags test`, showing what its stages say; `params` are those of the run.

    Raises:
        DongchaError: the DAG failed; the message names the log.
    """
    log = settings.var_dir / "logs" / f"{dag_id}-{ds}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        str(Path(sys.executable).parent / "airflow"),
        "dags",
        "test",
        dag_id,
        ds,
        "--conf",
        json.dumps(dict(params or {})),
    ]
    with log.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(
            command,
            env=airflow_env(settings) | {"DONGCHA_TASK_RETRIES": "0"},
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in readable(_kept(process.stdout or (), kept)):
                show(line)
            failed = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if failed:
        raise DongchaError(f"DAG {dag_id} failed for {ds}: what the stage said is above, the whole log is {log}")


def _kept(lines: Iterable[str], kept: TextIO) -> Iterator[str]:
    for line in lines:
        kept.write(line)
        yield line


def prepare_airflow(settings: Settings) -> None:
    """Make Airflow's database and the pool that bounds use of the LLM endpoint; quick where both are there.

    Raises:
        DongchaError: Airflow said no; the message ends with its words.
    """
    home = settings.var_dir / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    stamp = home / "prepared"
    if stamp.is_file():
        return
    for arguments in (("db", "migrate"), ("pools", "set", "llm", "1", "One stage at a time at the LLM endpoint")):
        done = airflow_command(settings, *arguments, quiet=True)
        if done.returncode:
            said = (done.stdout or b"").decode("utf-8", "replace")[-2000:]
            raise DongchaError(f"airflow {' '.join(arguments)} failed:\n{said}")
    stamp.touch()
