"""Histories: the newest events of every user, on disk.

Owns a RocksDB folder with one row per event, each user's together and the newest first, and the
offsets of `user-events` that go on after them. Promises that events and offsets are written
together or not at all, that applying a record again changes nothing, and that a late event finds
its place. It neither reads Kafka nor knows what an event means; one process opens a folder at a
time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from struct import Struct
from typing import cast

import structlog
from msgspec import msgpack
from rocksdict import DBCompressionType, Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from .errors import StreamError
from .records import EventRecord, UserEvent

log = structlog.get_logger(__name__)

# Rows: b"e" user, time counted back from the end of time, event id -> event; b"u" user -> how many
# event rows; b"o" partition -> next offset. Big-endian, so that the order of the bytes is the order
# of the numbers.
_EVENT = Struct(">cQQ").pack
_EVENTS_OF = Struct(">cQ").pack
_END_OF_TIME = 2**64 - 1
_USER = Struct(">cQ")
_OFFSET = Struct(">cI")
_NUMBER = Struct(">Q")

_TIME_ORDER = attrgetter("time_ms", "event_id")

# Histories grow to 5/4 of their bound before they are cut back, so that finding the place to cut,
# by stepping over all that stays, happens once in many events.
_SLACK_SHARE = 4


class HistoriesUnavailable(StreamError):
    """The folder cannot be opened; the message has RocksDB's reason."""


class HistoryStore:
    """The histories in one folder; `open` makes it.

    One thread applies. Any thread reads, also while records are applied.
    """

    def __init__(self, database: Rdict, events_per_user: int, *, sync: bool) -> None:
        self._database = database
        self._events_per_user = events_per_user
        self._most_rows = events_per_user + max(1, events_per_user // _SLACK_SHARE)
        self._write_options = WriteOptions()
        self._write_options.sync = sync
        self._encode = msgpack.Encoder().encode
        self._decode = msgpack.Decoder(UserEvent).decode
        # Row counts never are too low: an event that is applied again counts again, until a cut
        # counts what is there.
        self._rows = {
            _USER.unpack(key)[1]: _NUMBER.unpack(value)[0] for key, value in self._between(b"u")
        }
        self._changes: Counter[int] = Counter()

    @classmethod
    def open(cls, path: Path, events_per_user: int, *, sync: bool = False) -> HistoryStore:
        """Open the folder, made when needed.

        Args:
            path: a folder of its own.
            events_per_user: how many of a user's newest events to keep, at least 1.
            sync: whether every write reaches the disk before it returns. Without, the last writes
                can be lost when the machine, not only the process, goes down; their offsets are
                lost with them, so they are read from Kafka again.

        Raises:
            HistoriesUnavailable: another process has it open, or it is damaged.
        """
        if events_per_user < 1:
            raise ValueError(f"events_per_user is {events_per_user}; it must be at least 1")
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        path.mkdir(parents=True, exist_ok=True)
        try:
            database = Rdict(str(path), options)
        except Exception as error:
            raise HistoriesUnavailable(
                f"{path}: {error}; if another worker is running there, give this one an id of its "
                "own; only if none is and the folder is damaged, delete it: it is filled from "
                "user-events again"
            ) from error
        store = cls(database, events_per_user, sync=sync)
        log.info("histories_opened", path=str(path), users=store.users())
        return store

    def close(self) -> None:
        """Close the folder; every other method fails from now on."""
        self._database.close()

    def apply(self, records: Sequence[EventRecord], next_offsets: Mapping[int, int]) -> None:
        """Add events, and set where to go on reading, in one write.

        Args:
            records: in any order; events that are there already are not added twice.
            next_offsets: partition of `user-events` -> next offset, after all of `records`.
        """
        batch = WriteBatch(raw_mode=True)
        for record in records:
            event = record.event
            key = _EVENT(b"e", record.user_id, _END_OF_TIME - event.time_ms)
            batch.put(key + event.event_id.encode(), self._encode(event))
        touched = Counter(record.user_id for record in records)
        for user_id, count in touched.items():
            self._put_rows(batch, user_id, self._rows.get(user_id, 0) + count)
        for partition, offset in next_offsets.items():
            batch.put(_OFFSET.pack(b"o", partition), _NUMBER.pack(offset))
        self._database.write(batch, self._write_options)
        for user_id in touched:
            if self._rows[user_id] > self._most_rows:
                self._cut(user_id)
        # After the write: who sees the new count must find the new events.
        self._changes.update(touched.keys())

    def next_offsets(self) -> dict[int, int]:
        """Partition of `user-events` -> the offset to go on at; empty in a new folder."""
        return {
            _OFFSET.unpack(key)[1]: _NUMBER.unpack(value)[0] for key, value in self._between(b"o")
        }

    def read(self, user_id: int) -> list[UserEvent]:
        """The user's newest events, at most `events_per_user`, oldest first.

        Ordered by time, then event id; where the bound parts events of the same time, those with
        the lower ids stay. Of events with the same id only the latest is there. Empty for a user
        without events.
        """
        first, end = _EVENTS_OF(b"e", user_id), _EVENTS_OF(b"e", user_id + 1)
        events: dict[str, UserEvent] = {}
        for row in self._database.values(from_key=first, read_opt=_until(end)):
            event = self._decode(row)
            events.setdefault(event.event_id, event)
            if len(events) == self._events_per_user:
                break
        return sorted(events.values(), key=_TIME_ORDER)

    def change_count(self, user_id: int) -> int:
        """A number that is another one whenever `read` may return something else.

        Ask before reading: what is read is at least as new as the count. It starts at 0 with every
        opening.
        """
        return self._changes[user_id]

    def users(self) -> int:
        """How many users have a history."""
        return len(self._rows)

    def _put_rows(self, batch: WriteBatch, user_id: int, rows: int) -> None:
        self._rows[user_id] = rows
        batch.put(_USER.pack(b"u", user_id), _NUMBER.pack(rows))

    def _cut(self, user_id: int) -> None:
        """Drop what is older than the newest `events_per_user` rows."""
        first, end = _EVENTS_OF(b"e", user_id), _EVENTS_OF(b"e", user_id + 1)
        keys = cast(Iterator[bytes], self._database.keys(from_key=first, read_opt=_until(end)))
        kept = list(islice(keys, self._events_per_user))
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(kept[-1] + b"\0", end)  # the first key after it could be this one
        self._put_rows(batch, user_id, len(kept))
        self._database.write(batch)

    def _between(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows whose keys start with `kind`."""
        rows = self._database.items(from_key=kind, read_opt=_until(bytes([kind[0] + 1])))
        return cast(Iterator[tuple[bytes, bytes]], rows)


def _until(key: bytes) -> ReadOptions:
    """Iterators end before `key`."""
    options = ReadOptions()
    options.set_iterate_upper_bound(key)
    return options
