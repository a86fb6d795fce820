"""Histories: the newest events of every user, on disk, by partition of `user-events`.

Owns a RocksDB folder: what each user did, the offsets of `user-events` that go on after it, and
which users were erased. Promises that events and offsets are written together or not at all, that
applying a record again changes nothing, that a late event finds its place, and that what came
before an erasure never counts again. Its offsets are those of one topic: a folder that was filled
from another is emptied. It neither reads Kafka nor knows what an event means; one process opens a
folder at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from struct import pack, unpack
from typing import NamedTuple

import structlog
from msgspec import msgpack
from rocksdict import WriteBatch

from .checkpoints import (
    NO_EVENTS,
    Checkpoint,
    Withdrawn,
    Written,
    decode_events,
    withdraw_parts,
    write_checkpoint,
)
from .codec import encode_id
from .history_rows import END_OF_TIME, EVENT_KEY, NUMBER, OF_PARTITION, OF_USER, HistoryRows
from .placement import partition_of
from .records import ERASE, EventRecord, UserEvent
from .topics import USER_PARTITIONS

log = structlog.get_logger(__name__)

_PARTITION = attrgetter("partition")
_TIME_ORDER = attrgetter("time_ms", "event_id")

# Event rows are folded into one row when they are a quarter of a full history, so that rewriting
# a history happens once in many events, and reading one takes few rows.
_FOLD_SHARE = 4


class AppliedEvents(NamedTuple):
    """What became of a batch of records."""

    applied: int
    skipped: int
    """Events of a user who was erased after them."""
    erased: int
    """Users that were erased."""
    misplaced: int
    """Records on another partition than the one where their key belongs."""


class _Partition:
    """What is in memory of one partition."""

    def __init__(self) -> None:
        # User -> event rows since the opening that are not folded; an event that is applied again
        # counts again.
        self.users: dict[int, int] = {}
        self.erased: dict[int, int] = {}
        # User -> the most records that the user ever had on `user-histories`, if more than one.
        self.parts: dict[int, int] = {}
        # Users whose checkpoint is older than their history.
        self.changed: set[int] = set()
        # Users who belong on another partition.
        self.misplaced: set[int] = set()


class HistoryStore:
    """The histories in one folder; `open` makes it.

    One thread writes: it alone calls what is not said to be for any. Any thread reads, also while
    records are applied.
    """

    def __init__(self, rows: HistoryRows, events_per_user: int, source: str) -> None:
        self._rows = rows
        self._events_per_user = events_per_user
        self._most_rows = max(1, events_per_user // _FOLD_SHARE)
        self._source = source
        self._encode = msgpack.Encoder().encode
        self._decode = msgpack.Decoder(UserEvent).decode
        self._changes: Counter[int] = Counter()
        self._next_offsets: dict[int, int] = {}
        self._partitions: dict[int, _Partition] = {}
        self._expiring: Iterator[tuple[int, int]] = iter(())
        self._expired_before_ms = 0
        self._recall()

    @classmethod
    def open(
        cls, path: Path, events_per_user: int, source: str = "", *, sync: bool = False
    ) -> HistoryStore:
        """Open the folder, made when needed.

        Args:
            path: a folder of its own.
            events_per_user: how many of a user's newest events to keep, at least 1.
            source: the topic that the offsets are of. A folder of another topic is emptied.
            sync: whether every write reaches the disk before it returns. Without, the last writes
                can be lost when the machine, not only the process, goes down; their offsets are
                lost with them, so they are read from Kafka again.

        Raises:
            HistoriesUnavailable: another process has it open, or it is damaged.
        """
        if events_per_user < 1:
            raise ValueError(f"events_per_user is {events_per_user}; it must be at least 1")
        store = cls(HistoryRows.open(path, source, sync=sync), events_per_user, source)
        log.info("histories_opened", path=str(path), users=store.users())
        return store

    def close(self) -> None:
        """Close the folder; every other method fails from now on."""
        self._rows.close()

    def apply(
        self, records: Sequence[EventRecord], next_offsets: Mapping[int, int]
    ) -> AppliedEvents:
        """Add events, erase users, and set where to go on reading, in one write.

        Args:
            records: in the order of their offsets within a partition; events that are there already
                are not added twice.
            next_offsets: partition of `user-events` -> next offset, after all of `records`.
        """
        batch = WriteBatch(raw_mode=True)
        total = AppliedEvents(0, 0, 0, 0)
        touched: list[tuple[int, int]] = []
        for number, group in groupby(records, _PARTITION):
            applied, users = self._apply_to(number, list(group), batch)
            total = AppliedEvents(*map(sum, zip(total, applied, strict=True)))
            touched += [(number, user_id) for user_id in users]
        for number, offset in next_offsets.items():
            batch.put(OF_PARTITION.pack(b"o", number), NUMBER.pack(offset))
        self._rows.write(batch)
        self._next_offsets.update(next_offsets)
        for number, user_id in touched:
            if self._partitions[number].users.get(user_id, 0) > self._most_rows:
                self._fold(number, user_id, self._newest(number, user_id))
        # After the write: who sees the new count must find the new events.
        self._changes.update(user_id for _, user_id in touched)
        return total

    def next_offsets(self) -> dict[int, int]:
        """Partition of `user-events` -> the offset to go on at, for those that are held.

        For any thread.
        """
        return dict(self._next_offsets)

    def read(self, user_id: int, after_ms: int = -1) -> list[UserEvent]:
        """The user's newest events, at most `events_per_user`, oldest first; for any thread.

        Ordered by time, then event id; where the bound parts events of the same time, those with
        the lower ids stay. Of events with the same id only the latest is there. Empty for a user
        without events.

        Args:
            user_id: whose.
            after_ms: only events later than this, epoch ms.
        """
        events: list[UserEvent] = []
        # One partition, unless a producer has put the user's events on another one as well.
        for number, partition in tuple(self._partitions.items()):
            if user_id in partition.users:
                events = self._newest(number, user_id, events)
        if events and events[0].time_ms <= after_ms:
            return [event for event in events if event.time_ms > after_ms]
        return events

    def erased_before(self, number: int, user_id: int) -> int | None:
        """The offset before which a user of a partition is erased; for any thread."""
        partition = self._partitions.get(number)
        return None if partition is None else partition.erased.get(user_id)

    def change_count(self, user_id: int) -> int:
        """A number that is another one whenever `read` may return something else.

        For any thread. Ask before reading: what is read is at least as new as the count. It starts
        at 0 with every opening.
        """
        return self._changes[user_id]

    def users(self) -> int:
        """How many users have a history; for any thread."""
        return sum(len(partition.users) for partition in tuple(self._partitions.values()))

    def take_changed(self, number: int) -> tuple[list[int], int]:
        """The users of a partition whose histories changed since their last checkpoint.

        They are not told again, unless they change again or `return_changed` gives them back.

        Returns:
            The users, and the next offset that their histories are to be checkpointed with.
        """
        partition = self._partitions[number]
        changed, partition.changed = partition.changed, set()
        return sorted(changed), self._next_offsets[number]

    def return_changed(self, number: int, users: Iterable[int]) -> None:
        """Take back users whose checkpoints were not written; for any thread."""
        if partition := self._partitions.get(number):
            partition.changed.update(users)

    def checkpoint(self, number: int, user_id: int) -> list[Written | Withdrawn]:
        """The records of the user's checkpoint, as the history is now; for any thread.

        What earlier and longer checkpoints may have left on the topic is withdrawn with them, so
        that nothing of an erased user stays there.
        """
        # What is read first is the oldest: the events include everything before the offset, and
        # who is erased meanwhile has changed again.
        next_offset = self._next_offsets[number]
        erased_before = self._partitions[number].erased.get(user_id)
        events = self._newest(number, user_id)
        written = write_checkpoint(user_id, self._source, next_offset, events, erased_before)
        left = withdraw_parts(user_id, len(written), self._partitions[number].parts.get(user_id, 1))
        # Before they are written: none may be there that is not known.
        self.note_parts(number, {user_id: len(written)})
        return [*written, *left]

    def note_parts(self, number: int, parts: Mapping[int, int]) -> None:
        """Users have this many records on `user-histories`; for any thread."""
        known = self._hold(number).parts
        more = {user_id: count for user_id, count in parts.items() if count > known.get(user_id, 1)}
        if more:
            batch = WriteBatch(raw_mode=True)
            for user_id, count in more.items():
                batch.put(OF_USER.pack(b"n", number, user_id), NUMBER.pack(count))
            self._rows.write(batch)
            known.update(more)

    def checkpointed(self, number: int) -> int:
        """The offset of the last checkpoints of a partition that this store knows of, or 0."""
        return self._rows.number(b"k", number) or 0

    def note_checkpointed(self, number: int, next_offset: int) -> None:
        """All histories of a partition are on `user-histories` as of this offset."""
        batch = WriteBatch(raw_mode=True)
        batch.put(OF_PARTITION.pack(b"k", number), NUMBER.pack(next_offset))
        first, end = (OF_USER.pack(b"c", number, offset) for offset in (0, next_offset + 1))
        batch.delete_range(first, end)
        self._rows.write(batch)

    def load(self, number: int, checkpoints: Iterable[tuple[int, Checkpoint]]) -> None:
        """Take histories from their checkpoints; a later one of a user replaces an earlier one.

        The partition is held, and its users are served, once `begin` has been called.
        """
        self._hold(number)
        batch = WriteBatch(raw_mode=True)
        for user_id, checkpoint in checkpoints:
            key = OF_USER.pack(b"h", number, user_id)
            if checkpoint.events == NO_EVENTS:
                self._forget(number, user_id, batch)
            else:
                batch.put(key, bytes(checkpoint.events))
                self._partitions[number].users[user_id] = 0
            if checkpoint.erased_before is not None:
                self._bar(number, user_id, checkpoint.erased_before, batch)
        self._rows.write(batch)

    def begin(self, number: int, next_offset: int) -> None:
        """Hold a partition, from what was loaded or is here, and go on at `next_offset`."""
        partition = self._hold(number)
        batch = WriteBatch(raw_mode=True)
        # What was loaded is on the topic already; what is here may have changed since.
        for kind in (b"o",) if number in self._next_offsets else (b"o", b"k"):
            batch.put(OF_PARTITION.pack(kind, number), NUMBER.pack(next_offset))
        self._rows.write(batch)
        self._next_offsets[number] = next_offset
        self._changes.update(partition.users.keys())

    def drop(self, number: int) -> None:
        """Hold a partition no longer: nothing of it stays, once `scrub` has run."""
        # First of all: whoever finds the offset after reading has read a whole history.
        self._next_offsets.pop(number, None)
        dropped = self._partitions.pop(number, None)
        # A load that was cut short leaves rows, too.
        if dropped is not None or not self._rows.is_empty(number):
            self._rows.delete_partition(number)
        if dropped is not None:
            self._changes.update(dropped.users.keys())

    def expire(self, before_ms: int, most_users: int) -> int:
        """Delete events that are not later than `before_ms`, of some users at a time.

        A round over all users begins when the last one is done and `before_ms` has moved on.

        Returns:
            How many users have lost events.
        """
        lost = 0
        for _ in range(most_users):
            user = next(self._expiring, None)
            if user is None:
                if before_ms > self._expired_before_ms:
                    self._expired_before_ms = before_ms
                    self._expiring = self._everyone()
                break
            number, user_id = user
            if number in self._partitions and user_id in self._partitions[number].users:
                lost += self._expire(number, user_id, self._expired_before_ms)
        return lost

    def scrub(self) -> None:
        """Rewrite the files so that what was deleted is in none of them; for any thread."""
        self._rows.scrub()

    def _apply_to(
        self, number: int, records: Sequence[EventRecord], batch: WriteBatch
    ) -> tuple[AppliedEvents, list[int]]:
        """Put one partition's records into the batch; what became of them, and their users."""
        partition = self._hold(number)
        erased = partition.erased
        put, encode = batch.put, self._encode
        users: list[int] = []
        gone: list[int] = []
        skipped = 0
        for record in records:
            event, user_id = record.event, record.user_id
            if event.action == ERASE:
                # A checkpoint may know of an erasure that its events do not: it is made while
                # events are applied.
                if erased.get(user_id, -1) <= record.offset:
                    self._forget(number, user_id, batch)
                    self._bar(number, user_id, record.offset, batch)
                    gone.append(user_id)
                    users = [other for other in users if other != user_id]
            elif erased and record.offset < erased.get(user_id, 0):
                skipped += 1
            else:
                key = EVENT_KEY(b"e", number, user_id, END_OF_TIME - event.time_ms)
                put(key + event.event_id.encode(), encode(event))
                users.append(user_id)
        counts = Counter(users)
        rows = partition.users
        for user_id, count in counts.items():
            before = rows.get(user_id)
            if before is None:
                self._check_place(number, user_id)
            rows[user_id] = (before or 0) + count
        changed = [*counts, *gone]
        key = OF_PARTITION.pack(b"c", number) + NUMBER.pack(records[-1].offset + 1)
        put(key, pack(f">{len(changed)}Q", *changed))
        partition.changed.update(changed)
        misplaced = sum(counts[user_id] for user_id in partition.misplaced & counts.keys())
        return AppliedEvents(len(users), skipped, len(gone), misplaced), changed

    def _newest(
        self, number: int, user_id: int, others: Iterable[UserEvent] = ()
    ) -> list[UserEvent]:
        """The user's newest events on a partition, `others` among them, oldest first."""
        # Rows before the folded one: folding between the two shows an event twice, never not at
        # all.
        rows = self._rows.events(number, user_id)
        folded = self._rows.folded(number, user_id)
        events = {event.event_id: event for event in others}
        for event in decode_events(folded or NO_EVENTS):
            events[event.event_id] = event
        for row in reversed(rows):
            event = self._decode(row)
            known = events.get(event.event_id)
            if known is None or known.time_ms <= event.time_ms:
                events[event.event_id] = event
        newest: Iterable[UserEvent] = events.values()
        if len(events) > self._events_per_user:
            by_age = sorted(newest, key=lambda event: (-event.time_ms, event.event_id))
            newest = by_age[: self._events_per_user]
        return sorted(newest, key=_TIME_ORDER)

    def _fold(self, number: int, user_id: int, events: Sequence[UserEvent]) -> None:
        """Keep these events of the user, in one row, and no others."""
        batch = WriteBatch(raw_mode=True)
        first, end = EVENT_KEY(b"e", number, user_id, 0), EVENT_KEY(b"e", number, user_id + 1, 0)
        batch.delete_range(first, end)
        batch.put(OF_USER.pack(b"h", number, user_id), self._encode(events))
        self._rows.write(batch)
        self._partitions[number].users[user_id] = 0

    def _expire(self, number: int, user_id: int, before_ms: int) -> bool:
        events = self._newest(number, user_id)
        kept = [event for event in events if event.time_ms > before_ms]
        if len(kept) == len(events):
            return False
        if kept:
            self._fold(number, user_id, kept)
        else:
            batch = WriteBatch(raw_mode=True)
            self._forget(number, user_id, batch)
            self._rows.write(batch)
        self._partitions[number].changed.add(user_id)
        self._changes[user_id] += 1
        return True

    def _everyone(self) -> Iterator[tuple[int, int]]:
        """(partition, user) of all that are here now; who comes or goes meanwhile may be missed."""
        for number, partition in tuple(self._partitions.items()):
            for user_id in tuple(partition.users):
                yield number, user_id

    def _hold(self, number: int) -> _Partition:
        partition = self._partitions.get(number)
        if partition is None:
            partition = self._partitions[number] = _Partition()
        return partition

    def _forget(self, number: int, user_id: int, batch: WriteBatch) -> None:
        """Delete a user's events."""
        self._partitions[number].users.pop(user_id, None)
        first, end = EVENT_KEY(b"e", number, user_id, 0), EVENT_KEY(b"e", number, user_id + 1, 0)
        self._rows.delete(first, end, batch)
        key = OF_USER.pack(b"h", number, user_id)
        self._rows.delete(key, key + b"\0", batch)

    def _bar(self, number: int, user_id: int, before: int, batch: WriteBatch) -> None:
        """Remember that a user's events before an offset do not count."""
        self._partitions[number].erased[user_id] = before
        batch.put(OF_USER.pack(b"x", number, user_id), NUMBER.pack(before))

    def _check_place(self, number: int, user_id: int) -> None:
        if partition_of(encode_id(user_id), USER_PARTITIONS) != number:
            self._partitions[number].misplaced.add(user_id)

    def _recall(self) -> None:
        """Read back what is kept in memory of the partitions that are held."""
        self._next_offsets = self._rows.by_partition(b"o")
        checkpointed = self._rows.by_partition(b"k")
        # A partition without an offset is one whose loading was cut short.
        for number in self._next_offsets:
            partition = self._hold(number)
            for user_id in self._rows.users(number):
                partition.users[user_id] = 0
                self._check_place(number, user_id)
        for number, offset, value in self._rows.by_user(b"c"):
            if number in self._partitions and offset > checkpointed.get(number, 0):
                self._partitions[number].changed.update(unpack(f">{len(value) // 8}Q", value))
        for number, user_id, value in self._rows.by_user(b"x"):
            if number in self._partitions:
                self._partitions[number].erased[user_id] = NUMBER.unpack(value)[0]
        for number, user_id, value in self._rows.by_user(b"n"):
            if number in self._partitions:
                self._partitions[number].parts[user_id] = NUMBER.unpack(value)[0]
