"""`headwater train`: learn a model from the packaged data set, or from your own."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from .. import environment
from ..failure import Failed
from ..progress import training_bar
from . import options
from .output import show


class Model(StrEnum):
    """Which model."""

    RETRIEVER = "retriever"
    RANKER = "ranker"


class Preset(StrEnum):
    """How large, and how long it trains; a model may not have them all."""

    TINY = "tiny"
    DEMO = "demo"
    SMALL = "small"
    BASE = "base"
    LARGE = "large"


def train(
    model: Annotated[Model, typer.Argument(help="Which model.")],
    preset: Annotated[Preset, typer.Option(help="How large, and how long.")] = Preset.DEMO,
    data: options.Data = None,
    until_week: Annotated[
        int,
        typer.Option(help="Without --data: learn from the weeks before this one.", min=12, max=54),
    ] = 41,
    since: Annotated[
        str | None,
        typer.Option(
            help="Learn only from what was shown from here on, ISO 8601 or epoch ms; earlier events"
            " stay the users' history."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="With --data: learn from what was before, in the same form.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="Name of a checkpoint to start from.", metavar="NAME"),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with a run of the same name that was ended before its end.")
    ] = True,
    name: Annotated[
        str | None, typer.Option(help="Name of the checkpoint; by default MODEL-PRESET.")
    ] = None,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Train a model and write its checkpoint, with a report of the run."""
    settings = options.settings(config, assignments)
    since_ms = options.time_ms(since, "--since")
    until_ms = options.time_ms(until, "--until")
    if data is None and until is not None:
        raise typer.BadParameter("needs --data; there is --until-week", param_hint="--until")
    environment.prepare(settings.worker)
    # Imported here: torch takes seconds that other verbs need not wait.
    from model.training import Options

    from .. import training

    folder = settings.checkpoints / (name or f"{model}-{preset}")
    console = Console(stderr=True, highlight=False)
    if folder.exists():
        console.print(f"{folder} is there already; it is replaced at the end (--name for another)")
    with console.status("reading the data"):
        if data is None:
            lesson = training.packaged(until_week)
        else:
            lesson = training.mapped(data, until_ms, options.kafka(settings))
    wanted = Options(
        since_ms=since_ms,
        base=None if base is None else settings.checkpoints / base,
        resume=resume,
        save_every_s=settings.training.save_every_s,
    )
    kind = training.Kind(model.value)
    try:
        with training_bar(console, model.value) as progress:
            metrics = training.train(kind, lesson, preset.value, folder, progress, wanted)
    except KeyboardInterrupt:
        raise Failed(
            "interrupted; without --no-resume the same command goes on from there, but for up to"
            f" {settings.training.save_every_s:g} s"
        ) from None
    show({"checkpoint": str(folder), **metrics}, as_json)
