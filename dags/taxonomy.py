"""Learn the business from a sample: a proposed taxonomy and its diff against the approved one, for a person to read."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, chain
from stage import DEFAULT_ARGS, stage

with DAG(
    dag_id="taxonomy",
    description="sample, induce, diff: a proposed taxonomy for analysts",
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
    chain(induce, stage("diff"))
