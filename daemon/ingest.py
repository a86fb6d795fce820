"""The way of a record from Kafka into state.

Owns one reading loop per topic and the order of its steps: read, decode, dead-letter, apply. The
loops wait on the event loop; decoding and applying run on the one intake thread. Promises that no
offset is passed before the record is either applied or acknowledged by the dead-letter topic, that
a bad record stops nothing, and that a topic whose records find no room waits without losing any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

import structlog

from gpuindex import MemoryBudgetExceeded
from monitoring.freshness import LagTracker
from monitoring.metrics import INTAKE_PAUSED
from stream.codec import Message
from stream.deadletters import dead_letter
from stream.errors import Reason
from stream.publish import Publisher
from stream.reader import TopicReader

from .appliers import Applier, Batch, Record, count_decoded
from .clock import wall_ms
from .settings import IntakeSection

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# Folding makes room at once or not at all; later it is a matter of other records.
PAUSE_S = 1.0


class IntakeThread:
    """The thread that owns all writes; the event loop hands it one call at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="intake")

    async def run(self, call: Callable[..., Result], *args: object) -> Result:
        """Run a call on the thread and wait for its result without blocking the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(call, *args))

    def close(self) -> None:
        """Finish what was handed over and end the thread."""
        self._executor.shutdown(wait=True)


class IngestLoop(Generic[Record]):
    """Reads one topic and applies it, batch by batch, until it is cancelled."""

    def __init__(
        self,
        reader: TopicReader,
        applier: Applier[Record],
        publisher: Publisher,
        thread: IntakeThread,
        lag: LagTracker,
        settings: IntakeSection,
        *,
        clock_caught_up: Callable[[], Awaitable[None]] | None = None,
        upkeep: Callable[[], bool] | None = None,
    ) -> None:
        """Build the loop.

        Args:
            reader: reads the one topic that `applier` is for, started.
            clock_caught_up: waited for before an event is called one of the future, because the
                clock may be on its way on another topic.
            upkeep: bounded upkeep that runs on the intake thread between batches; says whether
                there was any to do.
        """
        self.applier = applier
        (self._topic,) = reader.positions()
        self._reader = reader
        self._publisher = publisher
        self._thread = thread
        self._lag = lag
        self._settings = settings
        self._clock_caught_up = clock_caught_up
        self._upkeep = upkeep
        self._paused: str | None = None
        INTAKE_PAUSED.labels(applier.topic).set(0)
        self._progress = asyncio.Condition()
        self._applied = reader.positions()[self._topic]

    @property
    def paused(self) -> str | None:
        """Why the topic waits; None while it is read."""
        return self._paused

    async def run(self) -> None:
        """Read and apply for ever."""
        while True:
            messages = await self._reader.read(self._settings.poll_ms, self._settings.batch_records)
            fetched_ms = wall_ms()
            next_offsets = self._reader.positions()[self._topic]
            self._note_fetched(messages)
            if messages:
                batch = await self._decode(messages, fetched_ms)
                await self._dead_letter(batch)
                count_decoded(self.applier.topic, batch)
                await self._apply(batch, next_offsets)
            await self._passed(next_offsets, messages)
            if self._upkeep is not None:
                await self._thread.run(self._upkeep)

    async def caught_up(self) -> None:
        """Wait until everything that is on the topic now has been applied."""
        ends = (await self._reader.end_offsets())[self._topic]
        async with self._progress:
            await self._progress.wait_for(
                lambda: all(self._applied.get(p, 0) >= end for p, end in ends.items())
            )

    def _note_fetched(self, messages: Sequence[Message]) -> None:
        # Records come in order within a partition: the first is the oldest.
        oldest_ms = {m.partition: float(m.timestamp) for m in reversed(messages)}
        for partition, end in self._reader.known_ends()[self._topic].items():
            self._lag.note_fetched(self.applier.topic, partition, end, oldest_ms.get(partition))

    async def _decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[Record]:
        batch = await self._thread.run(self.applier.decode, messages, fetched_ms)
        early = any(error.reason is Reason.FUTURE_EVENT for _, error in batch.rejected)
        if early and self._clock_caught_up is not None:
            await self._clock_caught_up()
            batch = await self._thread.run(self.applier.decode, messages, fetched_ms)
        return batch

    async def _apply(self, batch: Batch[Record], next_offsets: Mapping[int, int]) -> None:
        """Apply a batch; as long as the index has no room for it, the topic is paused."""
        while True:
            try:
                await self._thread.run(self.applier.apply, batch, next_offsets)
            except MemoryBudgetExceeded as full:
                self._pause(str(full))
            else:
                self._pause(None)
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

    async def _dead_letter(self, batch: Batch[Record]) -> None:
        if not batch.rejected:
            return
        await self._publisher.send_all(
            [dead_letter(message, error.reason, error.detail) for message, error in batch.rejected]
        )
        for message, error in batch.rejected[:3]:
            log.warning(
                "record_rejected",
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                reason=error.reason.value,
                detail=error.detail,
                batch_rejected=len(batch.rejected),
            )

    async def _passed(self, next_offsets: Mapping[int, int], messages: Sequence[Message]) -> None:
        newest_ms = {m.partition: float(m.timestamp) for m in messages}
        for partition, offset in next_offsets.items():
            self._lag.note_applied(self.applier.topic, partition, offset, newest_ms.get(partition))
        async with self._progress:
            self._applied.update(next_offsets)
            self._progress.notify_all()
