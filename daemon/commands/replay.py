"""`headwater replay`: publish weeks of the packaged data set."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console

from stream import topics
from stream.publish import Publisher
from stream.settings import Kafka

from ..clones import WithClones
from ..datasets import complete_journey as journey
from ..datasets import mapping
from ..failure import Failed
from ..progress import replay_bar
from ..replay import Recording, Replay
from . import options
from .output import show


def replay(
    from_week: Annotated[
        int,
        typer.Option(
            "--from",
            help="First week of ads; purchases before it are sent at once.",
            min=journey.FIRST_WEEK,
            max=journey.LAST_WEEK,
        ),
    ] = 41,
    to_week: Annotated[
        int,
        typer.Option(
            "--to", help="Last week of ads.", min=journey.FIRST_WEEK, max=journey.LAST_WEEK
        ),
    ] = 43,
    until_ms: Annotated[
        int | None,
        typer.Option(help="Stop at this epoch ms; by default at the end of the last week."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Simulated seconds per second; by default it does not wait.", min=1e-3),
    ] = None,
    ads: Annotated[
        int | None,
        typer.Option(help="Live ads at the start: clones are added up to this many.", min=1),
    ] = None,
    data: options.Data = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="With --data: where the replay begins, ISO 8601 or epoch ms; what is earlier is"
            " sent at once. By default at the end."
        ),
    ] = None,
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """Publish weeks of The Complete Journey, or a data set of your own, by event time."""
    settings = options.settings(config, assignments, bootstrap, prefix)
    console = Console(stderr=True, highlight=False)
    kafka = options.kafka(settings)
    recording: Recording
    try:
        with console.status("reading the data"):
            if data is None:
                recording = journey.Recording(kafka, from_week, to_week)
            else:
                # Brings pandas, which no other verb's start has to wait for.
                from ..datasets.recording import MappedRecording

                start_ms = options.time_ms(start, "--start")
                recording = MappedRecording(kafka, mapping.load(data), start_ms)
    except journey.DatasetMissing as error:
        raise Failed(str(error)) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from, --to, --start") from None
    end_ms = recording.end_ms if until_ms is None else until_ms
    if not recording.start_ms <= end_ms <= recording.end_ms:
        raise typer.BadParameter(
            f"{end_ms}: allowed are {recording.start_ms} to {recording.end_ms}",
            param_hint="--until-ms",
        )
    replayed = recording if ads is None else WithClones(kafka, recording, ads)
    try:
        sent = asyncio.run(_replay(kafka, replayed, end_ms, speed, console))
    except KeyboardInterrupt:
        raise Failed(
            "interrupted; what was sent stays, and is applied once however often it is sent again"
        ) from None
    show(sent, as_json)


async def _replay(
    kafka: Kafka,
    recording: Recording,
    until_ms: int,
    speed: float | None,
    console: Console,
) -> dict[str, Any]:
    await topics.ensure(kafka)
    async with Publisher(kafka) as publisher:
        replay = Replay(kafka, publisher, recording, speed)
        with replay_bar(console, replay.time_ms, replay.start_ms, until_ms) as report:
            sent = await replay.until(until_ms, report)
    return {
        "time_ms": sent.time_ms,
        "records": dict(sent.records),
        "seconds": round(sent.seconds, 3),
        "records_per_s": round(sent.records_per_s),
    }
