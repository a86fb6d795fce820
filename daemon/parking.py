"""Requests from Kafka whose users are on their way to this worker.

Owns the requests that wait for a partition. Promises that each is handed on when its users are
here, refused with where to go when they will not be, and told when its deadline has passed before
that; that a partition on the move is in no other's way; and that reading stops while too many wait.
"""

from __future__ import annotations

import asyncio

from monitoring.metrics import QUEUE_DEPTH, RECORDS_MISPLACED
from stream.codec import Message
from stream.placement import partition_of
from stream.records import ErrorBody
from stream.topics import SCORE_REQUESTS, USER_PARTITIONS

from .forwarding import Forwarding
from .ownership import Ownership
from .requests import Asked, RequestDesk


class Parking:
    """In front of the desk, for records."""

    def __init__(
        self, desk: RequestDesk, ownership: Ownership, forwarding: Forwarding, most: int
    ) -> None:
        self._desk = desk
        self._ownership = ownership
        self._forwarding = forwarding
        self._room = asyncio.Semaphore(most)
        self._arriving: set[asyncio.Task[bool]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        QUEUE_DEPTH.labels("parked").set_function(lambda: len(self._arriving))

    async def accept(self, message: Message) -> None:
        """Hand a record on to the desk, now or when its users are here."""
        if message.key and partition_of(message.key, USER_PARTITIONS) != message.partition:
            RECORDS_MISPLACED.labels(SCORE_REQUESTS).inc()
        if (asked := await self._desk.read(message)) is None:
            return
        if self._ownership.here(message.partition):
            await self._desk.accept(asked)
            return
        await self._room.acquire()
        arriving = asyncio.create_task(self._ownership.wait(message.partition))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._make_room)
        answering = asyncio.create_task(self._answer(asked, message.partition, arriving))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def close(self) -> None:
        """Refuse those that still wait, and let nobody go unanswered."""
        for arriving in self._arriving:
            arriving.cancel()
        if self._answering:
            await asyncio.wait(self._answering)

    def _make_room(self, arriving: asyncio.Task[bool]) -> None:
        self._arriving.discard(arriving)
        self._room.release()

    async def _answer(self, asked: Asked, partition: int, arriving: asyncio.Task[bool]) -> None:
        await asyncio.wait({arriving}, timeout=asked.left_s())
        if not arriving.done():
            arriving.cancel()
            passed = f"{asked.request.deadline_ms} ms had passed before the user was here"
            await self._desk.refuse(asked, ErrorBody("deadline", passed))
        elif not arriving.cancelled() and arriving.result():
            await self._desk.accept(asked)
        else:
            await self._desk.refuse(asked, self._forwarding.not_owner(partition))
