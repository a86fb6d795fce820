"""`headwater topics`: create what is missing, check what is there."""

from __future__ import annotations

import asyncio

import typer

from stream import topics
from stream.settings import Kafka

from . import options
from .output import show

app = typer.Typer(no_args_is_help=True, help="The topics on the cluster.")


@app.command()
def create(
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """Create the topics that are missing; never changes one that exists.

    Names what differs on those that exist; then exit code 2, as of check.
    """
    kafka = options.kafka(options.settings(config, assignments, bootstrap, prefix))
    _tell(kafka, as_json, created=asyncio.run(topics.create_missing(kafka)))


@app.command()
def check(
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """Compare the topics with what they must be; exit code 2 when they differ."""
    kafka = options.kafka(options.settings(config, assignments, bootstrap, prefix))
    _tell(kafka, as_json)


def _tell(kafka: Kafka, as_json: bool, **more: list[str]) -> None:
    differences = [str(difference) for difference in asyncio.run(topics.check(kafka))]
    show({**more, "differences": differences}, as_json)
    if differences:
        raise typer.Exit(2)
