"""`headwater train`: learn a model from the packaged data set."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from .. import environment
from ..progress import training_bar
from . import options
from .output import show


class Model(StrEnum):
    """Which model."""

    RETRIEVER = "retriever"
    RANKER = "ranker"


class Preset(StrEnum):
    """How large, and how long it trains."""

    TINY = "tiny"
    DEMO = "demo"


def train(
    model: Annotated[Model, typer.Argument(help="Which model.")],
    preset: Annotated[Preset, typer.Option(help="How large, and how long.")] = Preset.DEMO,
    until_week: Annotated[
        int, typer.Option(help="Learn from the weeks before this one.", min=12, max=54)
    ] = 41,
    name: Annotated[
        str | None, typer.Option(help="Name of the checkpoint; by default MODEL-PRESET.")
    ] = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Train a model on The Complete Journey and write its checkpoint."""
    settings = options.settings(config, assignments)
    environment.prepare(settings.worker)
    # Imported here: torch takes seconds that other verbs need not wait.
    from .. import training

    folder = settings.checkpoints / (name or f"{model}-{preset}")
    console = Console(stderr=True, highlight=False)
    with console.status("reading the data"):
        data = training.tables(until_week)
    with training_bar(console, model.value) as progress:
        metrics = training.train(training.Kind(model.value), data, preset.value, folder, progress)
    show({"checkpoint": str(folder), **metrics}, as_json)
