"""Settings: one TOML file, overridden by the environment, overridden by the command line.

Owns every key that an operator can set, its default and its bounds. Settings are read once, are
frozen, and each part receives only its own section. What a key does is written beside it, and
`daemon.reference` makes `docs/configuration.md` of it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from stream.formats import FormatName
from stream.security import Mechanism, Protocol

Table = dict[str, Any]

ENV_PREFIX = "HEADWATER_"
# Never shown.
SECRETS = frozenset({"kafka.password", "kafka.key_password"})
# Where verbs find a running worker: not a setting of one.
OTHER_VARIABLES = frozenset({"HEADWATER_URL"})


class ConfigurationError(Exception):
    """The configuration cannot be used: which key, which value, what is allowed."""


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSection(Section):
    """Where the records come from."""

    bootstrap: str = Field(default="127.0.0.1:9092", description="host:port of one or more brokers")
    prefix: str = Field(default="", description="prefix of every topic's name")
    group: str = Field(
        default="headwater", description="name of the Faust app that owns score-requests"
    )
    security: Protocol = Field(
        default="PLAINTEXT", description="whether by TLS (SSL), and with a user name (SASL)"
    )
    mechanism: Mechanism = Field(default="PLAIN", description="with SASL")
    username: str = Field(default="", description="with SASL")
    password: SecretStr = Field(
        default=SecretStr(""), description="with SASL; better by environment or `password_file`"
    )
    password_file: Path | None = Field(default=None, description="file that holds the password")
    ca_file: Path | None = Field(
        default=None, description="PEM; who signs the brokers' certificates; none: the system's"
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM; this client's certificate, for mutual TLS"
    )
    key_file: Path | None = Field(
        default=None, description="PEM; its private key; none: in `certificate_file`"
    )
    key_password: SecretStr = Field(
        default=SecretStr(""), description="of the key; better by environment or file"
    )
    key_password_file: Path | None = Field(default=None, description="file that holds it")
    unreachable_s: float = Field(
        default=10.0, gt=0, description="silence of all brokers that turns readiness off"
    )


class WorkerSection(Section):
    """This process."""

    id: str = Field(
        default="worker-0", pattern=r"^[A-Za-z0-9._-]+$", description="its name and folder"
    )
    state_dir: Path = Field(
        default=Path(".headwater"), description="checkpoints, snapshots, histories"
    )
    host: str = Field(default="127.0.0.1", description="address of the HTTP server")
    port: int = Field(default=8080, ge=0, le=65_535, description="its port; 0 picks a free one")
    advertised_url: str = Field(
        default="",
        pattern=r"^(https?://[^/]+)?$",
        description="where other workers and callers reach it; empty: http://host:port, or by the "
        "machine's name if host is every address",
    )
    threads: int = Field(default=1, ge=1, le=64, description="threads of torch inside one request")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe event that is logged"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="text for people, or one JSON object a line"
    )


class ClockSection(Section):
    """What "now" means for flights, recency and decay."""

    mode: Literal["wall", "replay"] = Field(
        default="wall", description="the system's clock, or the greatest time on the _clock records"
    )


class IndexSection(Section):
    """The inverted lists."""

    seal_ads: int = Field(
        default=4_096, ge=1, description="ads in the tail that make it a delta shard"
    )
    compact_deltas: int = Field(default=4, ge=1, description="delta shards that start a compaction")
    memory_budget_bytes: int = Field(
        default=0,
        ge=0,
        description="ads and delivery states that would pass it wait on their topics; 0: no limit",
    )
    query_bits: Literal[6, 12] = Field(
        default=6,
        description="bits of one query weight, the sign apart (recall: benchmarks/README.md)",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="cpu",
        description="what searches: `auto` takes a CUDA device if one can be used",
    )
    device_memory_budget_bytes: int = Field(
        default=0,
        ge=0,
        description="the same limit for a device's memory, half of it kept for folding; "
        "0: what the device has left",
    )


class HistorySection(Section):
    """The users' histories."""

    events: int = Field(
        default=1_024, ge=1, le=16_384, description="newest events kept of one user"
    )
    max_age_days: float = Field(
        default=0, ge=0, description="events that are older do not count and are deleted; 0: none"
    )
    memory_budget_bytes: int = Field(
        default=256 << 20, ge=0, description="memory for histories kept ready for the models"
    )
    checkpoint_interval_s: float = Field(
        default=60.0,
        gt=0,
        description="seconds between writings of the users that changed to `user-histories`",
    )
    checkpoint_bytes_per_s: int = Field(
        default=4 << 20, ge=1_024, description="most bytes a second written there"
    )


class ModelsSection(Section):
    """Checkpoints by name, under state_dir/checkpoints; "none" turns a model off."""

    retriever: str = Field(default="none", description="what finds candidates")
    ranker: str = Field(default="none", description="what orders them")


class ValueSection(Section):
    """The final order: bid^bid_power x p(engage)^engage_power x p(consume)^consume_power."""

    bid_power: float = Field(default=1.0, ge=0, description="0 ignores the bid")
    engage_power: float = Field(default=1.0, ge=0, description="weight of engagement")
    consume_power: float = Field(default=0.0, ge=0, description="weight of consumption")


class TrainingSection(Section):
    """`headwater train`."""

    save_every_s: float = Field(
        default=20.0, ge=0, description="seconds between two savings of a run that may be killed"
    )


class ScoringSection(Section):
    """One request's way through retrieval and ranking."""

    candidates: int = Field(
        default=300, ge=1, le=10_000, description="ads that retrieval hands to the ranker"
    )
    max_candidates: int = Field(
        default=5_000, ge=1, le=100_000, description="most ads that a request may ask for or name"
    )
    search_threads: int = Field(
        default=1,
        ge=1,
        le=64,
        description="threads that share one search of more than 65,280 ads; 1 suits a busy worker",
    )
    max_queue: int = Field(
        default=256,
        ge=1,
        description="requests that may wait for scoring, and as many more for a state",
    )
    max_parked: int = Field(
        default=10_000,
        ge=1,
        description="requests that may wait for users on their way to this worker",
    )
    max_wait_ms: int = Field(
        default=5_000,
        ge=0,
        description="longest wait for the state that a request asks for, its deadline apart",
    )


class IntakeSection(Section):
    """Reading Kafka."""

    batch_records: int = Field(
        default=2_000, ge=1, description="records handed to the intake thread at once"
    )
    poll_ms: int = Field(
        default=50, ge=1, description="longest wait for the first record of a batch"
    )


class FormatsSection(Section):
    """Format of the records, by topic, whose headers have no content-type."""

    ads: FormatName = Field(default="json", description="of `ads`")
    ads_control: FormatName = Field(default="json", description="of `ads-control`")
    user_events: FormatName = Field(default="json", description="of `user-events`")
    score_requests: FormatName = Field(
        default="json", description="of `score-requests`; an answer is in its request's format"
    )


class DeadLettersSection(Section):
    """Records that cannot be read, by topic: keep them, drop them, or stop at the first."""

    ads: Literal["dlq", "drop", "block"] = Field(default="dlq", description="of `ads`")
    ads_control: Literal["dlq", "drop", "block"] = Field(
        default="dlq", description="of `ads-control`"
    )
    user_events: Literal["dlq", "drop", "block"] = Field(
        default="dlq", description="of `user-events`"
    )
    score_requests: Literal["dlq", "drop"] = Field(
        default="dlq", description="of `score-requests`; one bad request never stops the others"
    )


class ImpressionsSection(Section):
    """The log of what was served, on `impressions`: the input of later training."""

    share: float = Field(
        default=0.0, ge=0, le=1, description="share of answers that are logged, by request id"
    )
    format: FormatName = Field(default="json", description="of the records")


class SnapshotSection(Section):
    """Durability of the index."""

    interval_s: float = Field(
        default=60.0, gt=0, description="seconds between snapshots while ads change"
    )
    keep: int = Field(
        default=3, ge=1, description="newest snapshots kept; a damaged one gives way to the next"
    )


class WatchdogSection(Section):
    """What stands still for too long: told, and then ended for a restart."""

    event_loop_s: float = Field(
        default=30.0,
        gt=0,
        description="longest block of the event loop",
    )
    intake_s: float = Field(
        default=120.0, gt=0, description="longest batch or snapshot of the intake thread"
    )
    scoring_s: float = Field(
        default=30.0, gt=0, description="longest request on the scoring thread"
    )
    position_s: float = Field(
        default=120.0, gt=0, description="longest that a partition with lag does not move"
    )
    exit_after_s: float = Field(
        default=15.0,
        ge=0,
        description="a stall that lasts so much longer ends the worker",
    )


class ShutdownSection(Section):
    """The end of a worker."""

    grace_s: float = Field(
        default=25.0,
        gt=0,
        description="what has not ended in order by then ends with exit code 1; below the time "
        "after which the orchestrator kills, which is often 30 s",
    )


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: KafkaSection = KafkaSection()
    worker: WorkerSection = WorkerSection()
    clock: ClockSection = ClockSection()
    index: IndexSection = IndexSection()
    history: HistorySection = HistorySection()
    models: ModelsSection = ModelsSection()
    value: ValueSection = ValueSection()
    training: TrainingSection = TrainingSection()
    scoring: ScoringSection = ScoringSection()
    intake: IntakeSection = IntakeSection()
    formats: FormatsSection = FormatsSection()
    deadletters: DeadLettersSection = DeadLettersSection()
    impressions: ImpressionsSection = ImpressionsSection()
    snapshot: SnapshotSection = SnapshotSection()
    watchdog: WatchdogSection = WatchdogSection()
    shutdown: ShutdownSection = ShutdownSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` has merged: its order is the documented one."""
        return (init_settings,)

    @property
    def checkpoints(self) -> Path:
        """Folder of the models' checkpoints."""
        return self.worker.state_dir / "checkpoints"

    @property
    def bases(self) -> Path:
        """Folder of the shards that this machine's workers share."""
        return self.worker.state_dir / "bases"

    @property
    def worker_folder(self) -> Path:
        """Folder of this worker's snapshots and histories."""
        return self.worker.state_dir / self.worker.id


def load(path: Path | None = None, overrides: Table | None = None) -> Settings:
    """Read the file, then the environment, then `overrides` ({section: {key: value}}).

    Raises:
        ConfigurationError: the file cannot be read, or a key or value is not allowed.
    """
    merged: Table = {}
    for layer in (_read(path), _environment(), overrides or {}):
        for section, values in layer.items():
            known = merged.get(section)
            if isinstance(known, dict) and isinstance(values, dict):
                values = {**known, **values}
            merged[section] = values
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, path)) from None


def _environment() -> Table:
    for name in os.environ:
        if not name.startswith(ENV_PREFIX) or name in OTHER_VARIABLES:
            continue
        section = name.removeprefix(ENV_PREFIX).partition("__")[0].lower()
        if section not in Settings.model_fields:
            known = ", ".join(sorted(Settings.model_fields))
            raise ConfigurationError(
                f"environment: {name}: write it as {ENV_PREFIX}SECTION__KEY, with two underscores; "
                f"sections are {known}"
            )
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigurationError(
            f"environment: {error}; set single keys: {ENV_PREFIX}SECTION__KEY=value"
        ) from None


def _read(path: Path | None) -> Table:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; give an existing TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not a TOML file: {error}") from None


def _explain(error: ValidationError, path: Path | None) -> str:
    """One line per wrong key: where, which key, which value, what is allowed."""
    where = f"{path}, environment or command line" if path else "environment or command line"
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            names = _keys(Settings if len(problem["loc"]) == 1 else _section(problem["loc"][0]))
            lines.append(f"{where}: unknown key {key}; allowed: {', '.join(sorted(names))}")
        else:
            value = "(secret)" if key in SECRETS else repr(problem["input"])
            lines.append(f"{where}: {key} = {value}: {told(problem)}")
    return "\n".join(lines)


def told(problem: Any) -> str:
    """What is wrong, by one of pydantic's errors, without its own word for a check of ours."""
    message: str = problem["msg"]
    return message.removeprefix("Value error, ")


def _section(name: int | str) -> Any:
    return Settings.model_fields[str(name)].annotation


def _keys(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)
