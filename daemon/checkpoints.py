"""Writing the histories of this worker's users to `user-histories`, so that another can go on.

Owns one fenced writer per partition, and when and how fast users are written. Promises that every
history that changed is written again within the interval, as far as the rate allows; that the mark
of a partition is never ahead of what was written; and that a writer which was fenced off writes no
more.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NoReturn

import structlog

from monitoring.metrics import CHECKPOINTED_USERS, CHECKPOINTS
from stream.checkpoint_topic import CheckpointWriter, Fenced
from stream.checkpoints import Mark, Withdrawn, Written
from stream.errors import StreamError
from stream.histories import HistoryStore
from stream.requests import SESSION_TIMEOUT_S
from stream.settings import Kafka

from .ingest import IntakeThread
from .settings import HistorySection

log = structlog.get_logger(__name__)

# Written in one transaction: enough that committing is cheap, and little to hold in memory.
PORTION_BYTES = 1 << 20


class Checkpoints:
    """The checkpoints of the partitions that this worker holds."""

    def __init__(
        self,
        store: HistoryStore,
        thread: IntakeThread,
        kafka: Kafka,
        source: str,
        settings: HistorySection,
    ) -> None:
        self._store = store
        self._thread = thread
        self._kafka = kafka
        self._source = source
        self._settings = settings
        self._writers: dict[int, CheckpointWriter] = {}
        # Partition -> the last mark on the topic; those that are written.
        self._marks: dict[int, int] = {}
        self._fenced_s: dict[int, float] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def take(self, partition: int) -> None:
        """Raise the fence of a partition: no other worker writes its checkpoints from now on.

        Raises:
            BrokerUnavailable: no broker answers in time.
        """
        async with self._turns[partition]:
            await self._start(partition)

    def begin(self, partition: int, mark: int) -> None:
        """Write a partition's checkpoints from now on; `mark` is the one that is on the topic."""
        self._marks[partition] = mark

    async def let_go(self, partition: int) -> None:
        """Write a partition's checkpoints no longer."""
        self._marks.pop(partition, None)
        async with self._turns[partition]:
            await self._end(partition)

    async def write_all(self) -> None:
        """Write what has changed of every partition."""
        await asyncio.gather(*map(self.write, list(self._marks)))

    async def close(self) -> None:
        """Let go of everything."""
        await asyncio.gather(*map(self.let_go, {*self._marks, *self._writers}))

    async def run(self) -> NoReturn:
        """Write what has changed, again and again."""
        while True:
            await asyncio.sleep(self._settings.checkpoint_interval_s)
            for partition in list(self._marks):
                await self.write(partition)

    async def write(self, partition: int) -> None:
        """Write the users of a partition that have changed; what fails is tried the next time."""
        async with self._turns[partition]:
            if partition not in self._marks or self._is_fenced(partition):
                return
            try:
                if partition not in self._writers:
                    await self._start(partition)
                users, next_offset = await self._thread.run(self._store.take_changed, partition)
                if users:
                    await self._write(partition, users, next_offset)
            except Fenced as fenced:
                # Its new owner is at work, and the group will say so here; unless it says that this
                # worker is the owner again.
                CHECKPOINTS.labels("fenced").inc()
                log.warning("checkpoints_fenced", partition=partition, reason=str(fenced))
                self._fenced_s[partition] = time.monotonic()
                await self._end(partition)
            except StreamError as error:
                CHECKPOINTS.labels("failed").inc()
                log.error("checkpoints_not_written", partition=partition, error=str(error))
                await self._end(partition)

    async def _write(self, partition: int, users: Sequence[int], next_offset: int) -> None:
        writer = self._writers[partition]
        done = 0
        try:
            while done < len(users) and partition in self._marks:
                records, until = await asyncio.to_thread(self._portion, partition, users, done)
                whole = until == len(users)
                mark = next_offset if whole else self._marks[partition]
                await writer.write(records, Mark(self._source, mark))
                CHECKPOINTS.labels("written").inc()
                CHECKPOINTED_USERS.inc(until - done)
                done = until
                if not whole:
                    written_bytes = sum(len(value or b"") for _, value in records)
                    await asyncio.sleep(written_bytes / self._settings.checkpoint_bytes_per_s)
        finally:
            self._store.return_changed(partition, users[done:])
        if done == len(users):
            if partition in self._marks:
                self._marks[partition] = next_offset
            await self._thread.run(self._store.note_checkpointed, partition, next_offset)

    def _portion(
        self, partition: int, users: Sequence[int], first: int
    ) -> tuple[list[Written | Withdrawn], int]:
        """The records of the users from `first` on, as many as belong in one transaction."""
        records: list[Written | Withdrawn] = []
        size, at = 0, first
        while at < len(users) and size < PORTION_BYTES:
            written = self._store.checkpoint(partition, users[at])
            records += written
            size += sum(len(value or b"") for _, value in written)
            at += 1
        return records, at

    def _is_fenced(self, partition: int) -> bool:
        """Whether the fence was lost so lately that the group may not have said so yet."""
        lost_s = self._fenced_s.get(partition)
        return lost_s is not None and time.monotonic() < lost_s + SESSION_TIMEOUT_S

    async def _start(self, partition: int) -> None:
        await self._end(partition)
        writer = CheckpointWriter(self._kafka, partition)
        await writer.start()
        self._writers[partition] = writer
        self._fenced_s.pop(partition, None)

    async def _end(self, partition: int) -> None:
        writer = self._writers.pop(partition, None)
        if writer is not None:
            await writer.stop()
