"""Every night: chats become tags, tags become profiles, and profiles reach the CRM once every gate was passed."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, chain
from airflow.timetables.interval import CronDataIntervalTimetable
from stage import DEFAULT_ARGS, stage

with DAG(
    dag_id="nightly",
    description="ingest, label, score, profile, publish: one night of conversations",
    doc_md=__doc__,
    # A bare cron string would make `ds` the day on which the run starts: the chats of one hour, and yesterday's never.
    schedule=CronDataIntervalTimetable("0 1 * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 16),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["dongcha"],
):
    # Longer than any profile's own patience, whose error says more.
    serving_up = stage(
        "serve up --for nightly", task_id="serve_up", retries=0, execution_timeout=timedelta(hours=1)
    ).as_setup()
    serving_down = stage("serve down --for nightly", task_id="serve_down", retries=0)
    label = stage("label", pool="llm", execution_timeout=timedelta(hours=6))
    train = stage("train")
    # Before the gate: a night that is stopped needs its report most.
    report = stage("report")
    # Nothing waits for MLflow: where it is down, its task alone fails.
    chain(report, stage("track"))
    chain(
        stage("ingest"),
        stage("check conversations quarantine identities", task_id="check_ingest", retries=0),
        stage("gold"),
        train,
        serving_up,
        label,
        serving_down.as_teardown(setups=serving_up),
    )
    chain(
        label,
        stage("check labels label_outcomes", task_id="check_labels", retries=0),
        stage("score"),
        report,
        stage("gate", retries=0),
        stage("profile"),
        stage(
            "check customer_profile customer_tags customer_timeline investment_intents",
            task_id="check_profile",
            retries=0,
        ),
        stage("publish"),
        # Skipped, and the trigger with it, on nights that the tags explain well enough.
        stage("unexplained", retries=0),
        TriggerDagRunOperator(
            task_id="new_tags",
            trigger_dag_id="taxonomy",
            logical_date="{{ ds }}",
            skip_when_already_exists=True,
        ),
    )
