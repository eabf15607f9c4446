from __future__ import annotations

import io

import pytest
from pydantic import SecretStr
from pyspark.sql import SparkSession
from rich.console import Console
from sqlalchemy import create_engine, text

from jobs.errors import DongchaError, InputError
from jobs.settings import PublishSettings, Settings, load_settings
from jobs.storage import Tables
from jobs.summary import Summary, render, summary
from tests.night_facts import DS, Facts

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Settings]:
    settings = load_settings().model_copy(update={"var": tmp_path_factory.mktemp("summary")})
    tables = Tables(spark, settings.warehouse)
    Facts(conversations=30).write_to(tables)
    _letters(tables, "rejected", "not_json", "rejected")
    return tables, settings


def _letters(tables: Tables, *reasons: str) -> None:
    """A dead letter of each reason, the last one twice, as after a kill between two tables."""
    columns = "request_key string, conversation_id string, conversation_ds string, conversation_hash string, "
    columns += "content_hash string, first_turn int, last_turn int, model string, prompt_hash string, reason string, "
    columns += "reply string, attempts int, answer_keys array<string>"
    none: list[str] = []
    rows = [
        (f"{i:064x}", f"c{i}", DS, "0" * 64, "0" * 64, 0, 1, "m", "p", r, "", 1, none) for i, r in enumerate(reasons)
    ]
    tables.append("dead_letters", tables.spark.createDataFrame([*rows, rows[-1]], columns), DS)


def _printed(found: Summary, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render(found))
    return out.getvalue()


def test_the_night_in_a_few_lines(night: tuple[Tables, Settings]) -> None:
    tables, settings = night
    micro = tables.read("scores", DS).where("labeller='cascade' and split='test' and tag_id='micro'").collect()[0]
    report = settings.var_dir / "reports" / DS / "quality.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("page", "utf-8")
    found = summary(tables, settings, DS)
    assert (found.flow.read, found.flow.labelled, found.flow.pending, found.proven, found.tags) == (36, 28, 2, 1, 23)
    labelled = tables.read("label_outcomes", DS).where("status = 'labelled'")
    assert found.flow.llm_labelled == labelled.where("llm_asked").count()
    printed = _printed(found)
    assert "36: 30 kept, 6 quarantined" in printed
    assert "3: rejected 2, not_json 1" in printed
    assert "6: not_json 3, empty_text 2, future_date 1" in printed
    assert f"micro {micro['precision']:.3f} [{micro['precision_low']:.3f}, {micro['precision_high']:.3f}]" in printed
    assert f"{micro['support']} gold tags" in printed
    assert "1 of 23" in printed
    assert str(report) in printed
    assert settings.mlflow_uri in printed
    assert "nothing published yet" in printed
    # Looking must not create the database.
    assert not (settings.var_dir / "crm.sqlite").exists()


def test_rows_of_the_crm_are_counted(night: tuple[Tables, Settings]) -> None:
    tables, settings = night
    path = settings.var_dir / "other.sqlite"
    with create_engine(f"sqlite:///{path}").begin() as connection:
        connection.execute(text("create table customer_profile (customer_id text primary key)"))
        connection.execute(text("insert into customer_profile values ('a'), ('b')"))
    settings = settings.model_copy(update={"publish": PublishSettings(url=SecretStr(f"sqlite:///{path}"))})
    found = summary(tables, settings, DS)
    assert found.published == {"customer_profile": 2}
    assert "customer_profile 2" in _printed(found)


def test_a_password_is_never_shown(night: tuple[Tables, Settings]) -> None:
    tables, settings = night
    url = SecretStr("postgresql+psycopg://crm:geheim@127.0.0.1:1/crm?connect_timeout=2")
    settings = settings.model_copy(update={"publish": PublishSettings(url=url)})
    with pytest.raises(DongchaError, match=r"crm:\*\*\*@127\.0\.0\.1") as caught:
        summary(tables, settings, DS)
    assert "geheim" not in str(caught.value)


def test_paths_are_not_cut_and_markup_is_not_read(night: tuple[Tables, Settings]) -> None:
    tables, settings = night
    found = summary(tables, settings, DS)
    narrow = _printed(found, width=60)
    assert "…" not in narrow
    assert settings.mlflow_uri[-20:] in "".join(part.strip() for part in narrow.splitlines())
    assert "[0." in narrow


def test_a_night_without_scores_says_which_stage_is_missing(tables: Tables, settings: Settings) -> None:
    with pytest.raises(InputError, match="run the stage"):
        summary(tables, settings, DS)
