"""`headwater dlq`: the records that were rejected, why, and sending them again."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from stream import topics
from stream.checkpoint_topic import read_erasures
from stream.cluster import look
from stream.codec import parse_id
from stream.deadletters import Found, find
from stream.errors import Reason
from stream.publish import Outgoing, Publisher
from stream.settings import Kafka

from ..failure import Failed
from . import options, output

app = typer.Typer(no_args_is_help=True, help="The records that were rejected.")

# What `replay` holds in memory at once; a dead letter is up to 2 MiB.
_PORTION = 50


class DeadLettered(StrEnum):
    """The topics that have a dead-letter topic."""

    ADS = topics.ADS
    ADS_CONTROL = topics.ADS_CONTROL
    USER_EVENTS = topics.USER_EVENTS
    SCORE_REQUESTS = topics.SCORE_REQUESTS


Topic = Annotated[DeadLettered, typer.Argument(help="The topic they came from.")]
Why = Annotated[Reason | None, typer.Option("--reason", help="Only those with this reason.")]


@app.command("list")
def list_letters(
    topic: Annotated[
        DeadLettered | None, typer.Argument(help="The topic they came from; all by default.")
    ] = None,
    reason: Why = None,
    limit: Annotated[int, typer.Option(help="The newest so many of each topic.", min=1)] = 100,
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """List dead letters, the oldest first."""
    kafka = options.kafka(options.settings(config, assignments, bootstrap, prefix))

    async def newest(name: str) -> deque[Found]:
        return deque([letter async for letter in _chosen(kafka, name, reason)], limit)

    summaries = [
        {"topic": name, **_summary(letter)}
        for name in (DeadLettered if topic is None else (topic,))
        for letter in asyncio.run(newest(name))
    ]
    if as_json:
        output.show({"letters": summaries}, as_json)
    elif not summaries:
        output.say("no dead letters")
    else:
        lines = {f"{each['topic']} {each['offset']}": _line(each) for each in summaries}
        output.show({**lines, "shown": len(lines)}, as_json)


@app.command("show")
def show_letter(
    topic: Topic,
    offset: Annotated[int, typer.Argument(help="Its offset, as `headwater dlq list` tells it.")],
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """Show one dead letter whole; bytes that are no text are shown in base64."""
    kafka = options.kafka(options.settings(config, assignments, bootstrap, prefix))

    async def first() -> Found | None:
        async for letter in _chosen(kafka, topic, offsets=[offset]):
            return letter
        return None

    letter = asyncio.run(first())
    if letter is None:
        raise Failed(f"{topic}: no dead letter has the offset {offset}; see `headwater dlq list`")
    output.show({"topic": topic, **_summary(letter), **_original(letter)}, as_json)


@app.command("replay")
def replay_letters(
    topic: Topic,
    offset: Annotated[
        list[int] | None, typer.Option("--offset", help="Only this one; repeatable.")
    ] = None,
    reason: Why = None,
    config: options.Config = None,
    assignments: options.Set = None,
    bootstrap: options.Bootstrap = None,
    prefix: options.Prefix = None,
    as_json: options.Json = False,
) -> None:
    """Send the original records to their topic again: all of them, or those chosen.

    The dead letters stay until they expire. A record that was sent twice is applied once. One
    whose value was cut, an event from before its user was erased, and one of a user-events that is
    no more, where nobody knows that, are not sent, only counted.
    """
    kafka = options.kafka(options.settings(config, assignments, bootstrap, prefix))
    output.show(asyncio.run(_replay(kafka, topic, reason, offset)), as_json)


async def _replay(
    kafka: Kafka, topic: str, reason: str | None, offsets: Sequence[int] | None
) -> dict[str, int]:
    counts = {"replayed": 0, "cut": 0, "erased": 0, "foreign": 0}
    wanted = set(offsets or ())
    source, erasures = "", {}
    if topic == topics.USER_EVENTS:
        source = (await look(kafka, [topic])).source(kafka, topic)
        erasures = await read_erasures(kafka, source)
    async with Publisher(kafka) as publisher:
        portion: list[Outgoing] = []
        async for letter in _chosen(kafka, topic, reason, offsets):
            wanted.discard(letter.offset)
            if letter.cut_from_bytes:
                counts["cut"] += 1
            elif source and letter.source not in ("", source):
                counts["foreign"] += 1
            elif _is_erased(letter, erasures):
                counts["erased"] += 1
            else:
                counts["replayed"] += 1
                portion.append((kafka.topic(topic), letter.key, letter.value, letter.headers))
            if len(portion) == _PORTION:
                await publisher.send_all(portion)
                portion = []
        await publisher.send_all(portion)
    if wanted:
        missing = ", ".join(map(str, sorted(wanted)))
        which = f" with the reason {reason}" if reason else ""
        raise Failed(
            f"{topic}: no dead letter{which} has the offset {missing}; {counts['replayed']} others"
            " were replayed; see `headwater dlq list`"
        )
    return counts


def _is_erased(letter: Found, erasures: Mapping[tuple[int, int], int]) -> bool:
    """Whether an event is one from before its user was erased; sent again it would come after."""
    try:
        place = int(letter.origin_partition), parse_id((letter.key or b"").decode("latin-1"))
        return int(letter.origin_offset) < erasures.get(place, 0)
    except ValueError:
        return False


async def _chosen(
    kafka: Kafka, topic: str, reason: str | None = None, offsets: Sequence[int] | None = None
) -> AsyncIterator[Found]:
    async for letter in find(kafka, topic):
        if reason in (None, letter.reason) and (not offsets or letter.offset in offsets):
            yield letter


def _summary(letter: Found) -> dict[str, Any]:
    return {
        "offset": letter.offset,
        "time_ms": letter.time_ms,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": {
            "topic": letter.origin_topic,
            "partition": letter.origin_partition,
            "offset": letter.origin_offset,
        },
        "key": _text(letter.key),
        "cut_from_bytes": letter.cut_from_bytes or None,
    }


def _line(summary: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(summary["time_ms"] / 1e3, UTC).isoformat(" ", "seconds")
    return f"{when} key {summary['key']}: {summary['reason']}: {summary['detail']}"


def _original(letter: Found) -> dict[str, Any]:
    return {
        "value": _text(letter.value),
        "headers": [{"name": name, "value": _text(value)} for name, value in letter.headers],
    }


def _text(data: bytes | None) -> Any:
    """Bytes for people and for JSON: as text if they are, else as {"base64": ...}."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
