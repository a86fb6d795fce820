"""Options that several verbs share, and how they become settings."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.settings import Kafka

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str, typer.Option("--url", help="Where the worker's HTTP is.", envvar="HEADWATER_URL")
]
DEFAULT_URL = "http://127.0.0.1:8080"


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


def kafka(settings: Settings) -> Kafka:
    """The part of the settings that `stream` needs."""
    return Kafka(settings.kafka.bootstrap, settings.kafka.prefix)


def _value(text: str) -> Any:
    """Read a value as TOML would; what is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
