from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.settings import PROJECT

pytestmark = pytest.mark.airflow
NIGHT = "2026-11-20"
LIST = """
import json
import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.timetables.base import TimeRestriction
bag = DagBag()
assert not bag.import_errors, bag.import_errors
run = bag.dags["nightly"].timetable.next_dagrun_info(
    last_automated_data_interval=None,
    restriction=TimeRestriction(earliest=pendulum.datetime(2026, 11, 20), latest=None, catchup=True),
)
print("FIRST " + json.dumps([str(run.run_after), str(run.data_interval.start.date())]))
print("DAGS " + json.dumps({
    dag_id: {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks} for dag_id, dag in bag.dags.items()
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A fresh `var` with Airflow prepared in it."""
    from jobs.airflow_env import airflow_env, prepare_airflow
    from jobs.settings import load_settings

    var = tmp_path_factory.mktemp("night")
    settings = load_settings().model_copy(update={"var": var})
    prepare_airflow(settings)
    return airflow_env(settings) | {"DONGCHA_VAR": str(var), "DONGCHA_PRIVACY__PSEUDONYM_KEY": "tests-only"}


def test_dags_load_and_nothing_is_published_before_the_gates(environment: dict[str, str]) -> None:
    # Airflow's dag processor puts the DAG folder on the path; a bare DagBag does not.
    path = {"PYTHONPATH": str(PROJECT / "dags")}
    done = subprocess.run(
        [sys.executable, "-c", LIST], env=environment | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("DAGS "))
    dags: dict[str, dict[str, list[str]]] = json.loads(line.removeprefix("DAGS "))
    assert set(dags) == {"nightly", "taxonomy"}
    first = next(line for line in done.stdout.splitlines() if line.startswith("FIRST "))
    # What starts in the night to the 21st is the 20th: its chats are all there.
    assert json.loads(first.removeprefix("FIRST ")) == ["2026-11-21 01:00:00+00:00", "2026-11-20"]

    def before(task: str, graph: dict[str, list[str]]) -> set[str]:
        direct = {up for up, downs in graph.items() if task in downs}
        return direct | {up for d in direct for up in before(d, graph)}

    asked = dags["taxonomy"]
    assert {"induce", "diff", "person_wanted", "decision"} <= before("decide", asked)
    needed = {"ingest", "check_ingest", "label", "check_labels", "score", "gate", "profile", "check_profile"}
    assert needed <= before("publish", dags["nightly"])
    assert {"serve_up", "serve_down", "track"} <= set(dags["nightly"])
    assert not {"serve_down", "track"} & before("publish", dags["nightly"])
    assert {"publish", "unexplained"} <= before("new_tags", dags["nightly"])


COMMANDS = """
import json
from jinja2 import Environment
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
dag = bag.dags["taxonomy"]
class Asked:
    def xcom_pull(self, task_ids):
        assert task_ids == "decision"
        return {"chosen_options": ["Reject"], "params_input": {"note": None}, "responded_by_user": {"name": "$(id)"}}
decide, wanted = dag.get_task("decide"), dag.get_task("person_wanted")
context = {"ti": Asked(), "ds": "2026-11-20"}
render = lambda text, **more: Environment().from_string(text).render(**context, **more)
print("RENDERED " + json.dumps({
    "command": render(decide.bash_command),
    "env": {name: render(value) for name, value in decide.env.items()},
    "wanted": [render(wanted.bash_command, params={"ask_person": wish}) for wish in (True, False)],
    "default": dag.params["ask_person"],
}))
"""


def test_a_person_s_answer_becomes_the_command_and_what_was_typed_stays_out_of_the_shell(
    environment: dict[str, str],
) -> None:
    path = {"PYTHONPATH": str(PROJECT / "dags")}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], env=environment | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(x for x in done.stdout.splitlines() if x.startswith("RENDERED ")).removeprefix("RENDERED "))
    assert found["command"].endswith(f'-m jobs taxonomy reject --by "$DECIDED_BY" --note "$NOTE" --ds {NIGHT}')
    assert found["env"] == {"DECIDED_BY": "$(id)", "NOTE": ""}
    assert (found["wanted"], found["default"]) == (["exit 0", "exit 99"], True)


SPARK = """
import json, os, sys
from jobs.settings import load_settings
from jobs.spark import shared_spark
with shared_spark(load_settings()):
    found = {name: os.environ[name] for name in ("DONGCHA_SPARK__MASTER", "SPARK_CONNECT_AUTHENTICATE_TOKEN")}
    print("SHARED " + json.dumps(found), flush=True)
    sys.stdin.read()
"""


@contextmanager
def spark_for_stages(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """What stages need in their environment to use one Spark, which is up meanwhile in a process of its own."""
    host = subprocess.Popen(
        [sys.executable, "-c", SPARK], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with host:
        assert host.stdout is not None
        said = next(line for line in host.stdout if line.startswith("SHARED "))
        yield json.loads(said.removeprefix("SHARED "))


class _Night:
    """`nightly` run by Airflow on a fake-free pipeline; the student alone decides, the endpoint is never trusted."""

    def __init__(self, environment: dict[str, str], base_url: str) -> None:
        self.var = Path(environment["DONGCHA_VAR"])
        self.environment = environment | {
            "DONGCHA_LLM__PROFILE": "endpoint",
            "DONGCHA_LLM__BASE_URL": base_url,
            "DONGCHA_LLM__MODEL": "fake-model",
            "DONGCHA_LLM__RETRIES": "0",
            "DONGCHA_STUDENT__EMBEDDINGS": "false",
            "DONGCHA_TASK_RETRIES": "0",
        }

    def run(self, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs", "airflow", "dags", "test", "nightly", NIGHT],
            env=self.environment | extra,
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT,
        )

    def stage(self, name: str, **extra: str) -> str:
        """What one stage of the night says."""
        line = [sys.executable, "-m", "jobs", name, "--ds", NIGHT]
        environment = self.environment | extra
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, cwd=PROJECT)
        return done.stdout + done.stderr

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        tables = ("customer_profile", "customer_tags", "customer_timeline", "investment_intents")
        with sqlite3.connect(self.var / "crm.sqlite") as crm:
            return {name: sorted(crm.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


def test_a_whole_night_reaches_the_crm_and_a_replay_changes_nothing(environment: dict[str, str]) -> None:
    from tests.fake_llm import FakeLlm, reply_json

    with FakeLlm(reply_json({"tags": [], "cannot_tell": False})) as endpoint:
        night = _Night(environment, endpoint.base_url)
        done = night.run()
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert " -m jobs publish " in done.stdout + done.stderr
        first, asked = night.rows(), len(endpoint.requests)
        assert all(first.values())
        assert len(first["customer_profile"]) > 40
        assert (night.var / "reports" / NIGHT / "quality.html").is_file()
        with spark_for_stages(night.environment) as shared:
            # Again, under a floor that no night reaches: nothing is asked, the gate stops it before publish.
            stopped = night.run(DONGCHA_GATE__FLOOR_PRECISION="0.999", **shared)
            said = stopped.stdout + stopped.stderr
            assert stopped.returncode != 0
            assert "under the floor" in said
            assert " -m jobs gate " in said and " -m jobs publish " not in said
            assert len(endpoint.requests) == asked
            again = [night.stage(stage, **shared) for stage in ("gate", "profile", "publish")]
        assert " 0 rows changed" in again[-1]
        assert night.rows() == first
