"""Requests from Kafka whose users are on their way to this worker.

Owns the records of `score-requests` that wait for a partition. Promises that each is handed on when
its users are here, or refused with where to go when they will not be; that a partition on the move
is in no other's way; and that reading stops while too many wait.
"""

from __future__ import annotations

import asyncio

from monitoring.metrics import QUEUE_DEPTH, RECORDS_MISPLACED
from stream.codec import Message
from stream.placement import partition_of
from stream.topics import SCORE_REQUESTS, USER_PARTITIONS

from .forwarding import Forwarding
from .ownership import Ownership
from .requests import RequestDesk


class Parking:
    """In front of the desk, for records."""

    def __init__(
        self, desk: RequestDesk, ownership: Ownership, forwarding: Forwarding, most: int
    ) -> None:
        self._desk = desk
        self._ownership = ownership
        self._forwarding = forwarding
        self._room = asyncio.Semaphore(most)
        self._parked: set[asyncio.Task[None]] = set()
        QUEUE_DEPTH.labels("parked").set_function(lambda: len(self._parked))

    async def accept(self, message: Message) -> None:
        """Hand a record on to the desk, now or when its users are here."""
        if message.key and partition_of(message.key, USER_PARTITIONS) != message.partition:
            RECORDS_MISPLACED.labels(SCORE_REQUESTS).inc()
        if self._ownership.here(message.partition):
            await self._desk.accept(message)
            return
        await self._room.acquire()
        task = asyncio.create_task(self._park(message))
        self._parked.add(task)
        task.add_done_callback(self._parked.discard)

    async def close(self) -> None:
        """Refuse those that still wait."""
        parked = list(self._parked)
        for task in parked:
            task.cancel()
        if parked:
            await asyncio.wait(parked)

    async def _park(self, message: Message) -> None:
        try:
            here = await self._ownership.wait(message.partition)
        except asyncio.CancelledError:
            here = False
        finally:
            self._room.release()
        if here:
            await self._desk.accept(message)
        else:
            await self._desk.refuse(message, self._forwarding.not_owner(message.partition))
