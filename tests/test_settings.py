"""Settings that somebody got wrong: what they read then, and that docs/settings.md knows every one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from jobs.errors import InputError
from jobs.settings import PROJECT, Settings, load_settings
from jobs.settings_names import sections_of


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings."""
    for name in [name for name in os.environ if name.startswith("DONGCHA_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DONGCHA_LABLE__LLM", r"DONGCHA_LABLE__LLM: no section `lable`; is `label` meant\?"),
        ("DONGCHA_VAR__X", "no section `var`"),
        ("DONGCHA_LABEL_LLM", "DONGCHA_LABEL_LLM: two underscores .* DONGCHA_LABEL__LLM"),
        ("dongcha_label__taxonmy", r"label.taxonmy: no such setting; is `label.taxonomy` meant\?"),
    ],
)
def test_a_misspelt_variable_is_refused(env: pytest.MonkeyPatch, name: str, said: str) -> None:
    env.setenv(name, "false")
    with pytest.raises(InputError, match=said):
        load_settings()


def test_variables_of_others_are_left_alone(env: pytest.MonkeyPatch) -> None:
    # The last two are what Kubernetes sets for a service of this name.
    for name in ("LLM_API_KEY", "EMBEDDINGS_API_KEY", "PYTHON", "TASK_RETRIES", "SERVICE_HOST", "PORT_80_TCP"):
        env.setenv(f"DONGCHA_{name}", "1")
    assert load_settings().label.llm


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROFILE__PURPOSES", "retirement", "DONGCHA_PROFILE__PURPOSES: not JSON"),
        ("SPARK__EXTRA", "spark.ui.enabled=false", "DONGCHA_SPARK__EXTRA: not JSON"),
        ("LABEL", "taxonomy", "DONGCHA_LABEL: not JSON"),
    ],
)
def test_a_list_or_mapping_that_is_not_json_names_its_variable(
    env: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    env.setenv("DONGCHA_SPARK__MASTER", "local[2]")
    env.setenv(f"DONGCHA_{name}", value)
    with pytest.raises(InputError, match=said):
        load_settings()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("source", "max_turn_chars", 0),
        ("source", "max_conversation_chars", -1),
        ("spark", "shuffle_partitions", 0),
        ("student", "threads", 0),
        ("student", "seed", -1),
        ("llm", "timeout_seconds", 0),
        ("llm", "retries", -1),
        ("llm", "backoff_seconds", -0.5),
        ("label", "unsure_low", -0.1),
        ("label", "unsure_low", 0.9),
        ("label", "unsure_high", 80),
        ("gate", "target_precision", 90),
        ("gate", "target_recall", -0.1),
        ("gate", "floor_precision", 30),
        ("gate", "floor_recall", -0.1),
        ("gate", "confidence", 95),
        ("gate", "confidence", 1),
        ("sample", "size", 0),
        ("sample", "window_days", 0),
        ("sample", "seed", -1),
    ],
)
def test_a_number_that_no_night_can_use_is_refused(
    env: pytest.MonkeyPatch, section: str, name: str, value: float
) -> None:
    env.setenv(f"DONGCHA_{section}__{name}".upper(), str(value))
    with pytest.raises(InputError, match=name):
        load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"label: [1\n", "mine.yaml: not YAML"),
        (b"- label\n", "mine.yaml: not YAML"),
        (b"42\n", "mine.yaml: not YAML"),
        (b"scenario: \xb8\xbb\n", "mine.yaml: not YAML"),
        (b"lable:\n  llm: false\n", r"lable: no such setting; is `label` meant\?"),
        (b"label:\n", "label: Input should be"),
    ],
)
def test_a_file_of_settings_that_cannot_be_read(
    env: pytest.MonkeyPatch, tmp_path: Path, text: bytes, said: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    env.setenv("DONGCHA_CONFIG", str(path))
    with pytest.raises(InputError, match=said):
        load_settings()


def test_an_empty_name_of_a_file_is_none(env: pytest.MonkeyPatch) -> None:
    env.setenv("DONGCHA_CONFIG", "")
    env.setattr("jobs.settings.DEFAULT_CONFIG", Path("nowhere.yaml"))
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load_settings()


def test_the_page_of_settings_knows_every_setting_and_no_other() -> None:
    """A row's first cell names settings of one section, which the first of them says."""
    told: set[str] = set()
    for cell in re.findall(r"^\| (`.*?) \|", (PROJECT / "docs" / "settings.md").read_text("utf-8"), re.M):
        first, *others = re.findall(r"`([a-z_.]+)`", cell)
        section = first.rpartition(".")[0]
        told |= {first, *(name if "." in name else f"{section}.{name}" for name in others)}
    known = {name for name, inner in sections_of(Settings).items() if not inner}
    known |= {f"{section}.{name}" for section, names in sections_of(Settings).items() for name in names}
    assert told == known
