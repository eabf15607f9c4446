"""MLflow's memory of the nights: one run a night with parameters, figures, report and student.

A replayed night gets a new run; the run it replaces is marked `superseded_by`. MLflow is imported only when a night is
logged: importing it takes seconds, and creating its database a quarter of a minute once.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import DongchaError, InputError
from jobs.labelling.usage import usage_metrics
from jobs.report.data import collect_night
from jobs.report.night import MACRO, MICRO, Night, Score
from jobs.settings import Settings
from jobs.storage import Tables
from jobs.taxonomies.store import approved_taxonomy
from jobs.taxonomy import Taxonomy

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDENT_ARTIFACT = "student"
REPORT_ARTIFACT = "report"
ALIAS = "nightly"
_FIGURES = ("precision", "precision_low", "recall", "recall_low", "f1", "support")
_NOT_IN_NAMES = re.compile(r"[^\w.\-/ ]")


def log_night(tables: Tables, settings: Settings, ds: str, *, student_dir: Path | None, report: Path | None) -> str:
    """Log night `ds` to the experiment of the scenario and return the run's id.

    `student_dir` (a student's folder, named by its key) is logged and registered as a version of the scenario's model,
    once a key; `report` is logged beside it.

    Raises:
        InputError: a table lacks this night, or a path handed in does not exist.
        DongchaError: MLflow refused; the run is left marked as failed.
    """
    for path in (student_dir, report):
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file or folder to log to MLflow")
    night = collect_night(tables, ds)
    taxonomy = approved_taxonomy(settings, ds)
    figures = _metrics(night) | usage_metrics(tables, ds)
    try:
        client = _client(settings)
        experiment = _experiment(client, settings)
        earlier = _runs_of_night(client, experiment, ds)
        run = client.create_run(experiment, tags={"ds": ds, "scenario": settings.scenario}, run_name=f"night {ds}")
    except DongchaError:
        raise
    except Exception as error:
        raise DongchaError(_refused(settings, ds, error)) from error
    run_id: str = run.info.run_id
    try:
        _log(client, run_id, _parameters(night, taxonomy, settings, student_dir), figures)
        if report is not None:
            client.log_artifact(run_id, str(report), REPORT_ARTIFACT)
        if student_dir is not None:
            client.log_artifacts(run_id, str(student_dir), STUDENT_ARTIFACT)
            _register(client, run_id, f"dongcha-{settings.scenario}-student", student_dir.name)
    except Exception as error:
        client.set_terminated(run_id, "FAILED")
        raise DongchaError(_refused(settings, ds, error)) from error
    client.set_terminated(run_id, "FINISHED")
    for old in earlier:
        client.set_tag(old, "superseded_by", run_id)
    return run_id


def _refused(settings: Settings, ds: str, error: Exception) -> str:
    return f"MLflow did not take night {ds} ({settings.mlflow_uri}): {error}"


def _client(settings: Settings) -> MlflowClient:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    # Migrations of a new store are told line by line otherwise.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    (settings.var_dir / "mlflow").mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=settings.mlflow_uri)


def _experiment(client: MlflowClient, settings: Settings) -> str:
    found = client.get_experiment_by_name(settings.scenario)
    if found is None:
        artifacts = settings.var_dir / "mlflow" / "artifacts"
        return str(client.create_experiment(settings.scenario, artifact_location=artifacts.resolve().as_uri()))
    if found.lifecycle_stage != "active":
        raise InputError(f"MLflow experiment {settings.scenario} was deleted: restore it, or use another scenario")
    return str(found.experiment_id)


def _runs_of_night(client: MlflowClient, experiment: str, ds: str) -> list[str]:
    runs = client.search_runs([experiment], filter_string=f"tags.ds = '{ds}'")
    return [run.info.run_id for run in runs if "superseded_by" not in run.data.tags]


def _parameters(night: Night, taxonomy: Taxonomy, settings: Settings, student_dir: Path | None) -> dict[str, str]:
    made = night.provenance
    gate = settings.gate
    return {
        "taxonomy": taxonomy.name,
        "taxonomy_version": str(taxonomy.version),
        "taxonomy_hash": taxonomy.content_hash,
        "prompt_hash": ",".join(made.prompt_hashes) or "none",
        "model": ",".join(made.llm_models) or "none",
        "serving_profile": settings.llm.profile,
        "student_key": student_dir.name if student_dir is not None else ",".join(made.student_models) or "none",
        "llm_tags": ",".join(sorted(tag for tag, trust in night.trust.items() if trust.llm_decides)) or "none",
        "target_precision": str(gate.target_precision),
        "target_recall": str(gate.target_recall),
        "confidence": str(gate.confidence),
    }


def _metrics(night: Night) -> dict[str, float]:
    """Metric names are `<figure>.<tag>`; those of the cascade on test gold stand alone, others name who and where."""
    flow = night.flow
    metrics: dict[str, float] = {
        "conversations.in": flow.read,
        "conversations.kept": flow.conversations,
        "conversations.quarantined": flow.quarantined,
        "conversations.labelled": flow.labelled,
        "conversations.labelled_with_llm": flow.llm_labelled,
        "conversations.without_tag": flow.no_tag,
        "conversations.pending": flow.pending,
        "conversations.dead": flow.dead,
        "tags.student": night.tags_by["student"],
        "tags.llm": night.tags_by["llm"],
        "tags.proven": sum(score.verdict == "met" for score in night.tag_scores("cascade", "test").values()),
    }
    metrics |= {f"gold.{split}": count for split, count in night.gold.items()}
    metrics |= {f"given.{_name(tag)}": use.total for tag, use in night.uses.items()}
    for score in night.scores:
        if (score.labeller, score.split) == ("cascade", "test"):
            metrics |= _figures(score, "")
        elif score.tag_id in (MICRO, MACRO):
            metrics |= _figures(score, f"{score.labeller}.{score.split}.")
    return metrics


def _figures(score: Score, prefix: str) -> dict[str, float]:
    values: Mapping[str, Any] = {figure: getattr(score, figure) for figure in _FIGURES}
    return {f"{prefix}{name}.{_name(score.tag_id)}": float(v) for name, v in values.items() if v is not None}


def _name(tag_id: str) -> str:
    return _NOT_IN_NAMES.sub("_", tag_id)


def _log(client: MlflowClient, run_id: str, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    points = [Metric(name, float(value), now, 0) for name, value in metrics.items()]
    client.log_batch(run_id, params=[Param(name, value) for name, value in parameters.items()])
    for start in range(0, len(points), 1000):  # what one batch may hold
        client.log_batch(run_id, metrics=points[start : start + 1000])


def _register(client: MlflowClient, run_id: str, name: str, key: str) -> None:
    """Point the alias to the version of this student; an unchanged student gets no new version."""
    versions = client.search_model_versions(f"name = '{name}'")
    found = next((version for version in versions if version.tags.get("student_key") == key), None)
    if found is None:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description="The cheap labeller, one version for each training.")
        source = f"{client.get_run(run_id).info.artifact_uri}/{STUDENT_ARTIFACT}"
        found = client.create_model_version(name, source, run_id, tags={"student_key": key}, await_creation_for=0)
    client.set_registered_model_alias(name, ALIAS, found.version)
