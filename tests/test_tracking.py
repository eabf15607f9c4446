from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.errors import DongchaError, InputError
from jobs.settings import Settings, load_settings
from jobs.storage import Tables
from jobs.tracking import log_night
from tests.night_facts import DS, Facts

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Settings, Path, Path]:
    """Tables, settings, a student's folder and a report."""
    root = tmp_path_factory.mktemp("tracking")
    settings = load_settings().model_copy(update={"var": root / "var"})
    tables = Tables(spark, settings.warehouse)
    Facts(conversations=30).write_to(tables)
    student = root / "0a1b2c3d"
    student.mkdir()
    (student / "manifest.json").write_text("{}", "utf-8")
    report = root / "quality.html"
    report.write_text("<p>page</p>", "utf-8")
    return tables, settings, student, report


def test_a_night_is_read_back_from_mlflow(night: tuple[Tables, Settings, Path, Path]) -> None:
    from mlflow import MlflowClient

    tables, settings, student, report = night
    first = log_night(tables, settings, DS, student_dir=student, report=report)
    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    run = client.get_run(first)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == settings.scenario
    assert run.data.tags["ds"] == DS
    assert run.data.params["taxonomy_version"] == "1"
    assert run.data.params["prompt_hash"] == "ab" * 32
    assert run.data.params["model"] == "smollm2-135m-instruct"
    assert run.data.params["student_key"] == "0a1b2c3d"
    assert run.data.params["serving_profile"] == settings.llm.profile
    scores = tables.read("scores", DS).where("labeller = 'cascade' and split = 'test'").collect()
    for score in scores:
        for name in ("precision", "recall", "f1", "support"):
            assert run.data.metrics[f"{name}.{score['tag_id']}"] == pytest.approx(score[name])
    assert run.data.metrics["conversations.in"] == 36
    assert run.data.metrics["conversations.quarantined"] == 6
    assert run.data.metrics["tags.proven"] == 1
    assert "precision.growth" in run.data.metrics
    assert "student.calibration.precision.micro" in run.data.metrics
    text = Path(client.download_artifacts(first, "report/quality.html")).read_text("utf-8")
    assert text == "<p>page</p>"
    assert Path(client.download_artifacts(first, "student/manifest.json")).is_file()
    assert (settings.var_dir / "mlflow" / "artifacts").is_dir()

    # A replay is a run of its own, and only the newest counts; the student is still the same version.
    second = log_night(tables, settings, DS, student_dir=student, report=None)
    assert second != first
    assert client.get_run(first).data.tags["superseded_by"] == second
    assert "superseded_by" not in client.get_run(second).data.tags
    name = f"dongcha-{settings.scenario}-student"
    versions = client.search_model_versions(f"name = '{name}'")
    assert [version.tags["student_key"] for version in versions] == ["0a1b2c3d"]
    assert client.get_model_version_by_alias(name, "nightly").run_id == first


def test_what_is_not_there_is_said_before_anything_is_logged(night: tuple[Tables, Settings, Path, Path]) -> None:
    tables, settings, _, _ = night
    with pytest.raises(InputError, match="no such file"):
        log_night(tables, settings, DS, student_dir=Path("nowhere"), report=None)
    with pytest.raises(InputError, match="no complete night"):
        log_night(tables, settings, "2026-11-01", student_dir=None, report=None)


def test_a_store_that_cannot_be_used_is_said(
    night: tuple[Tables, Settings, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def outdated(*_: object) -> None:
        raise RuntimeError("out-of-date database schema")

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", outdated)
    with pytest.raises(DongchaError, match=r"did not take night .* out-of-date"):
        log_night(night[0], night[1], DS, student_dir=None, report=None)


def test_a_run_that_breaks_off_is_marked_failed(
    night: tuple[Tables, Settings, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    tables, settings, _, report = night
    keep = log_night(tables, settings, DS, student_dir=None, report=None)

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    with pytest.raises(DongchaError, match="disk full"):
        log_night(tables, settings, DS, student_dir=None, report=report)
    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiment = client.get_experiment_by_name(settings.scenario)
    assert experiment is not None
    newest = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert newest.info.status == "FAILED"
    assert "superseded_by" not in client.get_run(keep).data.tags
