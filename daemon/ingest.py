"""The way of a record from Kafka into state.

Owns one reading loop per topic and the order of its steps: read, decode, settle what was rejected,
apply. The loops wait on the event loop; decoding and applying run on the one intake thread.
Promises that no offset is passed before the record is either applied or settled as its topic's
policy says, that a bad record stops nothing unless that policy is to block, and that a topic whose
records find no room waits without losing any.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Generic, NoReturn, TypeVar

import structlog

from gpuindex import MemoryBudgetExceeded
from monitoring.activity import Activity
from monitoring.freshness import LagTracker
from monitoring.metrics import INTAKE_PAUSED, UNKNOWN_KEYS
from stream.codec import Message
from stream.errors import Reason, Rejected, StreamError
from stream.reader import TopicReader

from .applied import Applied
from .appliers import Applier, Batch, Content
from .clock import wall_ms
from .rejections import Rejections, describe
from .settings import IntakeSection

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# Folding makes room at once or not at all; later it is a matter of other records.
PAUSE_S = 1.0


class IntakeThread:
    """The thread that owns all writes; the event loop hands it one call at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self.activity = Activity()

    async def run(self, call: Callable[..., Result], *args: object) -> Result:
        """Run a call on the thread and wait for its result without blocking the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(self.activity.run, call, *args))

    async def idle(self) -> None:
        """Wait until everything that was handed over before is done."""
        await self.run(lambda: None)

    def close(self) -> None:
        """Take no more calls; the one that runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class IngestLoop(Generic[Content]):
    """Reads one topic and applies it, batch by batch, until it is cancelled."""

    def __init__(
        self,
        reader: TopicReader,
        applier: Applier[Content],
        rejections: Rejections,
        thread: IntakeThread,
        lag: LagTracker,
        applied: Applied,
        settings: IntakeSection,
        *,
        blocked: Callable[[str], None],
        clock_caught_up: Callable[[], Awaitable[None]] | None = None,
        upkeep: Callable[[], bool] | None = None,
    ) -> None:
        """Build the loop.

        Args:
            reader: reads the one topic that `applier` is for, started.
            blocked: told why, when a rejected record is in the way and the policy is to block.
            clock_caught_up: waited for before an event is called one of the future, because the
                clock may be on its way on another topic.
            upkeep: bounded upkeep that runs on the intake thread between batches; says whether
                there was any to do.
        """
        self.applier = applier
        (self._topic,) = reader.positions()
        self._reader = reader
        self._rejections = rejections
        self._thread = thread
        self._lag = lag
        self._applied = applied
        self._settings = settings
        self._clock_caught_up = clock_caught_up
        self._blocked = blocked
        self._upkeep = upkeep
        self._paused: str | None = None
        self._standing: str | None = None
        self._moves: deque[tuple[Mapping[int, int], asyncio.Future[None]]] = deque()
        INTAKE_PAUSED.labels(applier.topic).set(0)
        applied.begin(applier.topic, reader.positions()[self._topic])

    @property
    def paused(self) -> str | None:
        """Why the topic waits; None while it is read."""
        return self._paused

    @property
    def waiting(self) -> str | None:
        """Why the topic is not read on, for want of room or for a bad record; None while it is."""
        return self._paused or self._standing

    async def run(self) -> None:
        """Read and apply for ever."""
        while True:
            await self._move()
            messages = await self._reader.read(self._settings.poll_ms, self._settings.batch_records)
            fetched_ms = wall_ms()
            next_offsets = self._reader.positions()[self._topic]
            # Before anything is applied: what the broker tells from now on is not in this batch.
            heard_ms = self._reader.heard_ms()
            self._note_fetched(messages)
            if messages:
                batch = await self._decode(messages, fetched_ms)
                if batch.rejected and self._rejections.block:
                    await self._stand_still(messages, batch, next_offsets, heard_ms)
                await self._rejections.settle(batch.rejected)
                await self._apply(batch, next_offsets)
            await self._passed(next_offsets, messages, heard_ms)
            if self._upkeep is not None:
                await self._thread.run(self._upkeep)

    async def follow(self, partitions: Mapping[int, int]) -> None:
        """Read exactly these partitions from the next batch on; returns when that is so.

        Args:
            partitions: number -> where to begin, if it is not read already.

        Raises:
            StreamError: as `TopicReader.follow`.
        """
        moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._moves.append((partitions, moved))
        await moved

    async def caught_up(self) -> None:
        """Wait until everything that is on the topic now has been applied."""
        await self._applied.reach({self.applier.topic: await self.ends()})

    async def ends(self) -> dict[int, int]:
        """Where the topic ends now, by partition."""
        return (await self._reader.end_offsets())[self._topic]

    def left(self, ends: Mapping[int, int]) -> int:
        """How many offsets before `ends` are not applied yet."""
        return self._applied.left({self.applier.topic: ends})

    async def reached(self, ends: Mapping[int, int], timeout_s: float) -> None:
        """Wait until everything before `ends` is applied, but not longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._applied.reach({self.applier.topic: ends})

    async def _move(self) -> None:
        """Between two batches: nothing that was read is left to apply."""
        topic = self.applier.topic
        while self._moves:
            partitions, moved = self._moves.popleft()
            before = self._reader.positions()[self._topic]
            try:
                await self._reader.follow(partitions)
            except StreamError as error:
                if not moved.cancelled():
                    moved.set_exception(error)
                continue
            after = self._reader.positions()[self._topic]
            for partition in before.keys() - after.keys():
                self._lag.forget(topic, partition)
            self._applied.begin(topic, after)
            if not moved.cancelled():
                moved.set_result(None)

    def _note_fetched(self, messages: Sequence[Message]) -> None:
        # Records come in order within a partition: the first is the oldest.
        oldest_ms = {m.partition: float(m.timestamp) for m in reversed(messages)}
        for partition, end in self._reader.known_ends()[self._topic].items():
            self._lag.note_fetched(self.applier.topic, partition, end, oldest_ms.get(partition))

    async def _decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[Content]:
        batch = await self._thread.run(self.applier.decode, messages, fetched_ms)
        early = any(error.reason is Reason.FUTURE_EVENT for _, error in batch.rejected)
        if early and self._clock_caught_up is not None:
            await self._clock_caught_up()
            batch = await self._thread.run(self.applier.decode, messages, fetched_ms)
        return batch

    async def _apply(self, batch: Batch[Content], next_offsets: Mapping[int, int]) -> None:
        """Apply a batch; as long as the index has no room for it, the topic is paused."""
        while True:
            try:
                await self._thread.run(self.applier.apply, batch, next_offsets)
            except MemoryBudgetExceeded as full:
                self._pause(str(full))
            else:
                self._pause(None)
                UNKNOWN_KEYS.labels(self.applier.topic).inc(batch.unknown_keys)
                return
            # Folding away what is dead is what makes room.
            while self._upkeep is not None and await self._thread.run(self._upkeep):
                pass
            self._note_fetched([])
            await asyncio.sleep(PAUSE_S)

    def _pause(self, reason: str | None) -> None:
        if (reason is None) != (self._paused is None):
            topic = self.applier.topic
            INTAKE_PAUSED.labels(topic).set(reason is not None)
            log.warning("intake_paused" if reason else "intake_resumed", topic=topic, reason=reason)
        self._paused = reason

    async def _stand_still(
        self,
        messages: Sequence[Message],
        batch: Batch[Content],
        next_offsets: Mapping[int, int],
        heard_ms: float,
    ) -> NoReturn:
        """Apply what comes before the first rejected record of each partition, and stay there."""
        first = _first_offsets(batch.rejected)
        before = [m for m in messages if m.partition not in first or m.offset < first[m.partition]]
        batch_before = await self._thread.run(self.applier.decode, before, batch.fetched_ms)
        next_offsets = {**next_offsets, **first}
        await self._apply(batch_before, next_offsets)
        await self._passed(next_offsets, before, heard_ms)
        self._standing = reason = describe(*batch.rejected[0])
        log.error("topic_blocked", topic=self._topic, reason=reason)
        self._blocked(reason)
        while True:
            await asyncio.sleep(3_600)

    async def _passed(
        self, next_offsets: Mapping[int, int], messages: Sequence[Message], heard_ms: float
    ) -> None:
        newest_ms = {m.partition: float(m.timestamp) for m in messages}
        for partition, offset in next_offsets.items():
            self._lag.note_applied(self.applier.topic, partition, offset, newest_ms.get(partition))
        await self._applied.note(self.applier.topic, next_offsets, heard_ms)


def _first_offsets(rejected: Sequence[tuple[Message, Rejected]]) -> dict[int, int]:
    """Partition -> offset of its first rejected record."""
    return {message.partition: message.offset for message, _ in reversed(rejected)}
