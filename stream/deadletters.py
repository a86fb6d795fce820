"""Dead letters: what becomes of a record that was rejected, and the way back.

Owns the form of a dead letter: the original key, value and headers byte for byte, then headers that
say why and where from. Their names are those of Kafka Streams (KIP-1034), so that tools for its
dead letters can read these. Promises that the original can be had back exactly, unless it was too
long and is said to be cut. Sending either is `stream.publish`' matter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from .codec import Message
from .errors import Reason
from .reader import TopicReader
from .settings import Kafka
from .topics import MAX_DEAD_LETTER_BYTES, dead_letter_topic

# Kafka Streams writes the exception and its message here; the reason and the detail are ours.
REASON_HEADER: Final = "__streams.errors.exception"
DETAIL_HEADER: Final = "__streams.errors.message"
TOPIC_HEADER: Final = "__streams.errors.topic"
PARTITION_HEADER: Final = "__streams.errors.partition"
OFFSET_HEADER: Final = "__streams.errors.offset"
# The length of a value that was cut; such values are sent compressed, far beyond what the topic
# they came from takes uncompressed.
CUT_HEADER: Final = "headwater-cut-from-bytes"
# Which of the topics that have had this name the offset is of.
SOURCE_HEADER: Final = "headwater-source"
_HEADERS: Final = (
    REASON_HEADER,
    DETAIL_HEADER,
    TOPIC_HEADER,
    PARTITION_HEADER,
    OFFSET_HEADER,
    SOURCE_HEADER,
    CUT_HEADER,
)
# What is left beside it is for the key and the headers.
MAX_VALUE_BYTES: Final = MAX_DEAD_LETTER_BYTES - (256 << 10)

_POLL_MS: Final = 500


class DeadLetter(NamedTuple):
    """A record for a dead-letter topic, in the order in which `stream.publish` sends it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter(message: Message, reason: Reason, detail: str, source: str = "") -> DeadLetter:
    """The dead letter of `message`.

    Numbers are decimal text, as in Kafka Streams. A record that carries such headers already, as
    one that was sent again and rejected again, keeps them: the last of a name is the newest. A
    value that is longer than the dead-letter topic takes is cut, and a header says from what.
    """
    value = message.value
    why = [
        (REASON_HEADER, reason),
        (DETAIL_HEADER, detail),
        (TOPIC_HEADER, message.topic),
        (PARTITION_HEADER, str(message.partition)),
        (OFFSET_HEADER, str(message.offset)),
    ]
    if source:
        why.append((SOURCE_HEADER, source))
    if value is not None and len(value) > MAX_VALUE_BYTES:
        why.append((CUT_HEADER, str(len(value))))
        value = value[:MAX_VALUE_BYTES]
    return DeadLetter(
        dead_letter_topic(message.topic),
        message.key,
        value,
        [*message.headers, *((name, text.encode()) for name, text in why)],
    )


class Found(NamedTuple):
    """A dead letter as it lies on its topic. What it does not say is empty."""

    offset: int
    """Its own, on the dead-letter topic."""
    time_ms: int
    """When it was written."""
    reason: str
    detail: str
    origin_topic: str
    origin_partition: str
    origin_offset: str
    source: str
    """The topic that the offset is of, as checkpoints name it."""
    cut_from_bytes: str
    """The length that the value had, if it was cut."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    """The original's own."""


def open_letter(message: Message) -> Found:
    """The inverse of `dead_letter`: the original, and why it is dead."""
    original: list[tuple[str, bytes]] = []
    why: dict[str, str] = {}
    # From the end to the reason, which comes first: what an original carried under these names is
    # its own, and stands before.
    for name, value in reversed(message.headers):
        if name in _HEADERS and name not in why and REASON_HEADER not in why:
            why[name] = (value or b"").decode(errors="replace")
        else:
            original.insert(0, (name, value))
    return Found(
        offset=message.offset,
        time_ms=message.timestamp,
        reason=why.get(REASON_HEADER, ""),
        detail=why.get(DETAIL_HEADER, ""),
        origin_topic=why.get(TOPIC_HEADER, ""),
        origin_partition=why.get(PARTITION_HEADER, ""),
        origin_offset=why.get(OFFSET_HEADER, ""),
        source=why.get(SOURCE_HEADER, ""),
        cut_from_bytes=why.get(CUT_HEADER, ""),
        key=message.key,
        value=message.value,
        headers=original,
    )


async def find(kafka: Kafka, topic: str) -> AsyncIterator[Found]:
    """The dead letters of `topic` (without prefix) that are there now, oldest first.

    Raises:
        TopicMissing: the dead-letter topic is not there.
        BrokerUnavailable: no broker answers.
    """
    name = dead_letter_topic(kafka.topic(topic))
    async with TopicReader(kafka, [name]) as reader:
        ends = (await reader.end_offsets())[name]
        while any(reader.positions()[name][partition] < end for partition, end in ends.items()):
            for record in await reader.read(_POLL_MS):
                if record.offset < ends[record.partition]:
                    yield open_letter(record)
