"""`headwater broker`: a Kafka of one node on this machine."""

from __future__ import annotations

from dataclasses import asdict

import typer

from stream.broker import Broker

from . import options
from .output import say, show

app = typer.Typer(no_args_is_help=True, help="A real Kafka of one node on this machine.")


def _local(config: options.Config, assignments: options.Set) -> Broker:
    """The broker whose folder is in the state folder."""
    return Broker(options.settings(config, assignments).worker.state_dir / "kafka")


@app.command()
def start(
    config: options.Config = None, assignments: options.Set = None, as_json: options.Json = False
) -> None:
    """Start it, or find it running; print its address, and nothing else."""
    bootstrap = _local(config, assignments).start()
    if as_json:
        show({"bootstrap": bootstrap}, as_json)
    else:
        say(bootstrap)


@app.command()
def stop(
    config: options.Config = None, assignments: options.Set = None, as_json: options.Json = False
) -> None:
    """Stop it if it runs; its data stays."""
    show({"stopped": _local(config, assignments).stop()}, as_json)


@app.command()
def status(
    config: options.Config = None, assignments: options.Set = None, as_json: options.Json = False
) -> None:
    """Say whether it runs and where; exit code 1 when it does not answer."""
    state = _local(config, assignments).status()
    show({**asdict(state), "home": str(state.home)}, as_json)
    if not state.ready:
        raise typer.Exit(1)
