"""Checkpoints: a user's whole history as one record of `user-histories`.

Owns what such a record says and how it is written, in as many parts as the topic's longest message
asks for; and the mark of a partition, the offset of `user-events` from which reading goes on after
its checkpoints. Promises that an erased user's checkpoint says so for ever, and that parts which a
history needs no longer can be taken back. Writing and reading the topic is
`stream.checkpoint_topic`'s part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec import msgpack as packed

from .codec import encode_id, parse_id
from .errors import StreamError
from .records import MAX_ID, UserEvent
from .topics import MAX_MESSAGE_BYTES

MARK_KEY: Final = b"_next"
# Of events before compression. What is more goes into another record of the same user, so that
# none is refused as too long; an event that is longer alone came compressed and goes so again.
MAX_PART_BYTES: Final = MAX_MESSAGE_BYTES // 2


Offset = Annotated[int, Meta(ge=0, le=MAX_ID)]


class CheckpointUnreadable(StreamError):
    """A record of `user-histories` is not one of this version's."""


class Mark(Struct, frozen=True):
    """Where `user-events` goes on after the checkpoints of a partition."""

    source: str
    """The topic, and on which cluster: what the offset is one of."""
    next_offset: Offset
    """Every checkpoint of the partition includes all of its user's events before it."""


class Checkpoint(Struct, frozen=True):
    """A history, and the offsets of `user-events` that it rests on."""

    source: str
    """As in `Mark`."""
    next_offset: Offset
    """All of the user's events before it are included."""
    events: Raw
    """A MessagePack array of `UserEvent`s, oldest first."""
    erased_before: Offset | None = None
    """The user was erased here: events with a lower offset never count again."""
    parts: Annotated[int, Meta(ge=1)] = 1
    """How many records of this user make the history."""


Written = tuple[bytes, bytes]
"""A record's key and value."""
Withdrawn = tuple[bytes, None]
"""The key of a record that is to be there no more, as Kafka is told."""

encode_events: Final = packed.Encoder().encode
decode_events: Final = packed.Decoder(list[UserEvent]).decode
_decode_checkpoint: Final = packed.Decoder(Checkpoint).decode
_decode_mark: Final = packed.Decoder(Mark).decode
NO_EVENTS: Final = encode_events([])


def write_mark(mark: Mark) -> Written:
    """The record of a mark, for its own partition."""
    return MARK_KEY, packed.encode(mark)


def write_checkpoint(
    user_id: int,
    source: str,
    next_offset: int,
    events: Sequence[UserEvent],
    erased_before: int | None,
) -> list[Written]:
    """The records of one history: `ID`, and `ID/1` and so on if it is too long for one."""
    portions = list(_portions(events))
    return [
        (
            _key_of(user_id, part),
            packed.encode(
                Checkpoint(source, next_offset, Raw(portion), erased_before, len(portions))
            ),
        )
        for part, portion in enumerate(portions)
    ]


def withdraw_parts(user_id: int, first: int, end: int) -> list[Withdrawn]:
    """What takes back the parts from `first` to `end` of a history."""
    return [(_key_of(user_id, part), None) for part in range(first, end)]


def read_mark(value: bytes) -> Mark:
    """The mark in the value of a record with `MARK_KEY`.

    Raises:
        CheckpointUnreadable: it is none.
    """
    try:
        return _decode_mark(value)
    except (ValueError, RecursionError) as error:
        raise CheckpointUnreadable(f"user-histories, key {MARK_KEY!r}: {error}") from None


def read_checkpoint(key: bytes, value: bytes) -> tuple[int, int, Checkpoint]:
    """User, number of the part, and the checkpoint or the part of one.

    Raises:
        CheckpointUnreadable: it is none.
    """
    user, _, part = key.decode("latin-1").partition("/")
    try:
        return parse_id(user), parse_id(part or "0"), _decode_checkpoint(value)
    except (ValueError, RecursionError) as error:
        raise CheckpointUnreadable(
            f"user-histories, key {key!r}: {error}; start the version that wrote it"
        ) from None


def join(parts: Iterable[Checkpoint]) -> Checkpoint:
    """The checkpoint whose parts these are, in their order.

    Raises:
        CheckpointUnreadable: they are not all, or hold no events.
    """
    parts = list(parts)
    if len(parts) != parts[0].parts:
        raise CheckpointUnreadable(
            f"user-histories: a history has {len(parts)} of its {parts[0].parts} parts"
        )
    try:
        events = [event for part in parts for event in decode_events(part.events)]
    except (ValueError, RecursionError) as error:
        raise CheckpointUnreadable(f"user-histories: a part of a history: {error}") from None
    return msgspec.structs.replace(parts[0], events=Raw(encode_events(events)), parts=1)


def _key_of(user_id: int, part: int) -> bytes:
    return encode_id(user_id) + (b"/%d" % part if part else b"")


def _portions(events: Sequence[UserEvent]) -> Iterator[bytes]:
    """The events as one array, or as several of at most `MAX_PART_BYTES` each."""
    whole = encode_events(events)
    if len(whole) <= MAX_PART_BYTES or len(events) == 1:
        yield whole
    else:
        middle = len(events) // 2
        yield from _portions(events[:middle])
        yield from _portions(events[middle:])
