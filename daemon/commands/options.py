"""Options that several verbs share, and how they become settings."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.settings import Kafka

from .. import cluster
from ..settings import ConfigurationError, Settings, load

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with the settings.", metavar="FILE")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting: section.key=value; repeatable.", metavar="KEY=VALUE"),
]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="Kafka's host:port.", metavar="HOST:PORT")
]
Prefix = Annotated[str | None, typer.Option("--prefix", help="Prefix of every topic's name.")]


def _in_a_folder(path: Path | None) -> Path | None:
    """Refuse at once what could not be written after minutes of work."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"{path.parent} is no folder", param_hint="--json")
    return path


Figures = Annotated[
    Path | None,
    typer.Option("--json", help="Write the figures there.", metavar="FILE", callback=_in_a_folder),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Column map of another data set: a TOML file.", metavar="FILE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Where the worker's HTTP is; by default as worker.host and worker.port say.",
        envvar="HEADWATER_URL",
    ),
]

# A server that listens on every address is reached at this machine's own.
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


def settings(
    config: Path | None = None,
    assignments: list[str] | None = None,
    bootstrap: str | None = None,
    prefix: str | None = None,
) -> Settings:
    """Read the settings as the command line wants them.

    Raises:
        ConfigurationError: an assignment is no `section.key=value`, or its value is not allowed.
    """
    overrides: dict[str, dict[str, Any]] = {}
    for assignment in assignments or ():
        path, equals, value = assignment.partition("=")
        section, dot, key = path.partition(".")
        if not (equals and dot and key):
            raise ConfigurationError(f"--set {assignment}: write it as section.key=value")
        overrides.setdefault(section, {})[key] = _value(value)
    for key, given in (("bootstrap", bootstrap), ("prefix", prefix)):
        if given is not None:
            overrides.setdefault("kafka", {})[key] = given
    return load(config, overrides)


def time_ms(text: str | None, option: str) -> int | None:
    """A moment as people write it: epoch ms, or ISO 8601, in UTC where it names no zone.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text}: write 2024-05-01, 2024-05-01T12:00 or epoch ms", param_hint=option
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def kafka(settings: Settings) -> Kafka:
    """The cluster that the settings name.

    Raises:
        ConfigurationError: they do not lead into it.
    """
    return cluster.kafka(settings.kafka)


def worker_url(url: str | None, config: Path | None, assignments: list[str] | None) -> str:
    """Where the worker is that the caller means: `url`, or what the settings say.

    Raises:
        ConfigurationError: as `settings`; or its port is not in them.
    """
    return url if url is not None else url_of(settings(config, assignments))


def url_of(settings: Settings) -> str:
    """Where the worker with these settings serves.

    Raises:
        ConfigurationError: its port is not in them.
    """
    worker = settings.worker
    if worker.port == 0:
        raise ConfigurationError(
            "worker.port = 0: the worker has picked a port; give the url that its log names as "
            "--url or HEADWATER_URL"
        )
    host = _EVERY_ADDRESS.get(worker.host, worker.host)
    return f"http://{host}:{worker.port}"


def _value(text: str) -> Any:
    """Read a value as TOML would; what is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
