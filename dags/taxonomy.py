"""Learn the business from a sample: a proposed taxonomy, its diff against the approved one, and a person's answer.

The run waits at `decision` until somebody answers under "Required Actions" in Airflow. Without an answer the task
fails after 7 days and the proposal stays open; it can still be decided by `python -m jobs taxonomy approve` or
`reject`. A run with `ask_person` off ends with the diff.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, Param, chain
from stage import DEFAULT_ARGS, output_of, stage

ANSWER = "ti.xcom_pull(task_ids='decision')"

with DAG(
    dag_id="taxonomy",
    description="sample, induce, diff: a proposed taxonomy, and an analyst's decision about it",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 11, 16),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["dongcha"],
    params={"ask_person": Param(True, type="boolean", description="Wait for a person's decision about the proposal.")},
    user_defined_macros={"output_of": output_of},
):
    # Longer than any profile's own patience, whose error says more.
    serving_up = stage(
        "serve up --for taxonomy", task_id="serve_up", retries=0, execution_timeout=timedelta(hours=1)
    ).as_setup()
    serving_down = stage("serve down --for taxonomy", task_id="serve_down", retries=0)
    induce = stage("induce", pool="llm", execution_timeout=timedelta(hours=6))
    chain(
        stage("ingest --window"),
        stage("sample"),
        stage("check samples", task_id="check_sample", retries=0),
        serving_up,
        induce,
        serving_down.as_teardown(setups=serving_up),
    )
    # Exit status 99 is BashOperator's word for "skip me", and with it all that waits for a person.
    person_wanted = BashOperator(
        task_id="person_wanted", bash_command="exit {{ 0 if params.ask_person else 99 }}", retries=0
    )
    decision = HITLOperator(
        task_id="decision",
        subject="Taxonomy proposed for {{ ds }}: shall it hold from that night on?",
        # What the command says goes to the page alone: it quotes chats, and that belongs in no log.
        body="{{ output_of('taxonomy diff', ds) }}",
        options=["Approve", "Reject"],
        params={"note": Param(None, type=["null", "string"], description="A remark for those who read it later.")},
        response_timeout=timedelta(days=7),
        retries=0,
    )
    decide = stage(
        f'taxonomy {{{{ {ANSWER}[\'chosen_options\'][0] | lower }}}} --by "$DECIDED_BY" --note "$NOTE"',
        task_id="decide",
        retries=0,
        # What people typed reaches the command as values of its environment, never as a part of the shell's line.
        env={
            "DECIDED_BY": f"{{{{ {ANSWER}['responded_by_user']['name'] }}}}",
            "NOTE": f"{{{{ {ANSWER}['params_input'].get('note') or '' }}}}",
        },
    )
    chain(induce, stage("diff"), person_wanted, decision, decide)
