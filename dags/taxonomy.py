"""Learn the business from a sample: a proposed taxonomy, its diff against the approved one, and a person's decision.

The run waits at `person` until somebody chooses under *Required Actions*; after 30 days without an answer that task
fails and the proposal stays open. `python -m jobs taxonomy approve` decides as well, and leaves nothing to ask.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, Param, chain
from stage import DEFAULT_ARGS, stage

ANSWER = "ti.xcom_pull(task_ids='person')"

with DAG(
    dag_id="taxonomy",
    description="sample, induce, diff, a person decides: the next version of the taxonomy",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 11, 16),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["dongcha"],
):
    serving_up = stage("serve up", retries=0, execution_timeout=timedelta(minutes=30)).as_setup()
    serving_down = stage("serve down", retries=0)
    induce = stage("induce", pool="llm", execution_timeout=timedelta(hours=6))
    chain(
        stage("ingest --window"),
        stage("sample"),
        stage("check samples", task_id="check_sample", retries=0),
        serving_up,
        induce,
        serving_down.as_teardown(setups=serving_up),
    )
    person = HITLOperator(
        task_id="person",
        subject="The taxonomy proposed on {{ ds }}: is it to hold from that night on?",
        body="{{ ti.xcom_pull(task_ids='taxonomy_ask') }}",
        options=["Approve", "Reject"],
        params={
            "leave_out": Param("", type="string", title="Ids of tags not to adopt, with commas"),
            "note": Param("", type="string", title="A remark for those who read it later"),
        },
        response_timeout=timedelta(days=30),
        retries=0,
    )
    chain(
        induce,
        stage("diff"),
        stage("taxonomy ask", output_processor=json.loads, retries=0),
        person,
        # Through the environment: what a person typed must never become part of a command line.
        stage(
            "taxonomy decide",
            retries=0,
            env={
                "DONGCHA_REVIEW_CHOICE": f"{{{{ {ANSWER}['chosen_options'][0] }}}}",
                "DONGCHA_REVIEW_BY": f"{{{{ {ANSWER}['responded_by_user']['name'] }}}}",
                "DONGCHA_REVIEW_LEAVE_OUT": f"{{{{ {ANSWER}['params_input'].get('leave_out', '') }}}}",
                "DONGCHA_REVIEW_NOTE": f"{{{{ {ANSWER}['params_input'].get('note', '') }}}}",
            },
        ),
    )
