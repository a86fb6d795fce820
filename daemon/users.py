"""What an operator can ask and do about one user.

Owns showing a history and erasing a user. Promises that an erasure is on `user-events` before it is
answered, so that no replay brings the user back, and that the answer comes when the user is gone
from memory and disk and the marker is on `user-histories`.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka.errors import KafkaError

from stream.codec import encode_event, encode_id
from stream.formats import JSON, header_of
from stream.histories import HistoryStore
from stream.placement import partition_of
from stream.publish import Publisher, PublishFailed
from stream.records import ERASE, UserEvent
from stream.settings import Kafka
from stream.topics import USER_EVENTS, USER_PARTITIONS

from .applied import Applied
from .clock import Clock
from .departures import Departures
from .histories import Expiry
from .scoring import RequestRefused

# A worker that is caught up has read its own record in milliseconds.
ERASE_TIMEOUT_S = 30.0


class Users:
    """The users of this worker, one at a time."""

    def __init__(
        self,
        store: HistoryStore,
        expiry: Expiry,
        publisher: Publisher,
        kafka: Kafka,
        applied: Applied,
        departures: Departures,
        clock: Clock,
    ) -> None:
        self._store = store
        self._expiry = expiry
        self._publisher = publisher
        self._topic = kafka.topic(USER_EVENTS)
        self._applied = applied
        self._departures = departures
        self._clock = clock

    def show(self, user_id: int) -> dict[str, Any]:
        """What `GET /v1/users/{user_id}` answers; for any thread."""
        partition = partition_of(encode_id(user_id), USER_PARTITIONS)
        events = self._store.read(user_id, self._expiry.before_ms())
        return {
            "user_id": str(user_id),
            "partition": partition,
            "next_offset": self._store.next_offsets().get(partition),
            "erased_before": self._store.erased_before(partition, user_id),
            "events": [msgspec.json.decode(encode_event(event)) for event in events],
        }

    async def erase(self, user_id: int) -> dict[str, Any]:
        """What `DELETE /v1/users/{user_id}` answers, when it is done.

        Raises:
            RequestRefused: not done in time; the record is written, and will be applied.
            PublishFailed: Kafka did not take the record.
        """
        event = UserEvent(f"erase-{uuid4().hex}", None, ERASE, self._clock.now_ms())
        key, value = encode_id(user_id), encode_event(event)
        try:
            sent = await self._publisher.send(self._topic, key, value, [header_of(JSON)])
            placed = await sent
        except KafkaError as error:
            raise PublishFailed(f"{self._topic}: {error!r}") from error
        try:
            async with asyncio.timeout(ERASE_TIMEOUT_S):
                await self._applied.reach({USER_EVENTS: {placed.partition: placed.offset + 1}})
                await self._departures.clean()
        except TimeoutError:
            raise RequestRefused(
                "stale", f"the record is written but not applied after {ERASE_TIMEOUT_S:g} s"
            ) from None
        return {
            "user_id": str(user_id),
            "partition": placed.partition,
            "erased_before": placed.offset,
        }
