"""A taxonomy's life under a real scheduler, decided by a person in Airflow's UI: `make test-ui`, a quarter of an hour.

Real parts throughout: Airflow's scheduler, API and UI, the demo's LLM on a vLLM server, Spark, headless Chromium.
Nothing is a stand-in but the person.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from jobs.llm.weights import LLM_VENV
from jobs.settings import load_settings
from jobs.storage import Tables
from tests.airflow_site import BROWSER, DRIVER, USER, AirflowSite, Person, free_port, person, standalone, until

pytestmark = [
    pytest.mark.ui,
    pytest.mark.airflow,
    pytest.mark.llm,
    pytest.mark.spark,
    pytest.mark.skipif(not (LLM_VENV / "bin" / "vllm").exists(), reason=".venv-llm is not set up: run `make setup`"),
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="Chromium or its driver is not installed"),
    pytest.mark.timeout(3600),
]
FIRST, SECOND = "2026-11-19", "2026-11-20"
NOTE = "两个标签按评审意见改过 <b>&</b>"
RENAMED, REDEFINED, ADDED = "complaint", "fee_inquiry", "fraud_concern"


def edit(proposal: Path) -> None:
    """An analyst's pen: one tag gets another name, one another definition, one is new."""
    document = yaml.safe_load(proposal.read_text("utf-8"))
    tags = {tag["id"]: tag for tag in document["tags"]}
    tags[RENAMED]["name"] = "投诉与不满"
    tags[REDEFINED]["definition"] = "客户问申购、赎回、管理、托管等费用或费率是多少、怎么收，或嫌费用高。"
    document["tags"].append(
        {
            "id": ADDED,
            "kind": "mot",
            "name": "疑似诈骗",
            "definition": "客户怀疑遇到诈骗，或担心账户、资金被盗。",
            "include": ["有人自称客服让我转账，是真的吗"],
        }
    )
    proposal.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), "utf-8")


def answer(someone: Person, choice: str) -> None:
    """Open what waits for a person, read it, leave a remark and press the button."""
    someone.click("//button[.//text()='Required Actions']")
    someone.click("//a[text()='decision']")
    someone.see("//input[@name='element_note']")
    someone.see(f"//*[contains(text(), 'Taxonomy proposed for {FIRST}')]")
    someone.picture("waiting")
    someone.fill("//input[@name='element_note']", NOTE)
    someone.picture("remark")
    someone.click(f"//*[@data-testid='hitl-option-{choice}']")
    someone.see("//*[contains(text(), 'Response received')]")
    someone.picture("answered")


def asked(tables: Tables, ds: str) -> dict[str, set[str]]:
    """Tag → content keys that the LLM was asked about it on a night."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in tables.read("llm_answers", ds).select("tag_id", "content_hash").collect():
        found[row["tag_id"]].add(row["content_hash"])
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AirflowSite]:
    port = free_port()
    with standalone(
        tmp_path / "var",
        DONGCHA_PRIVACY__PSEUDONYM_KEY="tests-only",
        DONGCHA_TASK_RETRIES="0",
        DONGCHA_LLM__BASE_URL=f"http://127.0.0.1:{port}/v1",
        # Low, so that the first night calls for new tags.
        DONGCHA_SAMPLE__UNEXPLAINED="0.05",
    ) as running:
        yield running


def test_a_person_s_answer_lets_the_run_go_on_and_the_next_night_asks_for_what_changed(
    site: AirflowSite, spark: SparkSession, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("DONGCHA_PICTURES", tmp_path / "pictures"))
    site.trigger("nightly", FIRST)
    for dag_id in ("nightly", "taxonomy"):
        site.unpause(dag_id)
    assert site.finished("nightly", FIRST, 1500) == "success", site.tasks_of("nightly", FIRST)
    # The night itself called for new tags.
    assert site.tasks_of("nightly", FIRST)["new_tags"] == "success"

    def waits() -> bool | None:
        state = site.tasks_of("taxonomy", FIRST)
        assert "failed" not in state.values(), state
        return state.get("decision") == "awaiting_input" or None

    until(waits, 1500, "the taxonomy that waits for a person")
    assert str(site.tasks_of("taxonomy", FIRST)["decide"]) == "None"
    assert not any(line.startswith("version 2") for line in site.command("taxonomy", "list").splitlines())
    edit(site.var / "taxonomies" / FIRST / "taxonomy.yaml")
    with person(site, pictures) as someone:
        answer(someone, "Approve")
    assert site.finished("taxonomy", FIRST, 300) == "success", site.tasks_of("taxonomy", FIRST)
    (version,) = (site.var / "taxonomies" / "versions").glob("*2.yaml")
    approved = yaml.safe_load(version.read_text("utf-8"))
    assert (approved["version"], approved["approval"]["by"], approved["approval"]["note"]) == (2, USER, NOTE)
    assert "version 2" in site.command("taxonomy", "list")

    site.trigger("nightly", SECOND)
    assert site.finished("nightly", SECOND, 1500) == "success", site.tasks_of("nightly", SECOND)
    tables = Tables(spark, load_settings().model_copy(update={"var": site.var}).warehouse)
    before, after = asked(tables, FIRST), asked(tables, SECOND)
    known = before[RENAMED]
    fresh = after[RENAMED]
    counts = {tag: (len(after[tag] & known), len(after[tag] - known)) for tag in sorted(after)}
    print("asked on the second night about (chats known from the first, new ones):", counts)
    assert len(known) >= 16
    assert not fresh & known
    # What was asked before is asked again only about the tag that means something else and the one that is new.
    assert {tag for tag, (again, _) in counts.items() if again} == {REDEFINED, ADDED}
    assert {new for _, new in counts.values()} == {len(fresh)}
    assert {row["taxonomy_version"] for row in tables.read("labels", SECOND).collect()} == {2}
