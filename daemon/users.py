"""What an operator can ask and do about one user.

Owns showing a history and erasing a user. Promises that an erasure is on `user-events` before it is
answered, so that no replay brings the user back; and that the answer says whether the user is gone
from memory and disk and the marker is on `user-histories`, or will be soon.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

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
        self._cleaning: set[asyncio.Task[None]] = set()

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

    async def erase(self, user_id: int, patience_s: float) -> dict[str, Any]:
        """What `DELETE /v1/users/{user_id}` answers, when it is done or `patience_s` are over.

        Raises:
            RequestRefused: Kafka has not taken the record.
        """
        until_s = time.monotonic() + patience_s
        event = UserEvent(f"erase-{uuid4().hex}", None, ERASE, self._clock.now_ms())
        key, value = encode_id(user_id), encode_event(event)
        try:
            async with asyncio.timeout(patience_s):
                sent = await self._publisher.send(self._topic, key, value, [header_of(JSON)])
                placed = await asyncio.shield(sent)
        except TimeoutError:
            message = "Kafka has not acknowledged the erasure in time; ask again"
            raise RequestRefused("deadline", message) from None
        except (KafkaError, PublishFailed) as error:
            raise RequestRefused("not_ready", f"the erasure is not written: {error!r}") from error
        cleaning = asyncio.create_task(self._clean_after(placed))
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaning.discard)
        # It goes on when nobody waits for it any more.
        await asyncio.wait({cleaning}, timeout=until_s - time.monotonic())
        return {
            "user_id": str(user_id),
            "partition": placed.partition,
            "erased_before": placed.offset,
            "gone": cleaning.done() and cleaning.exception() is None,
        }

    async def _clean_after(self, placed: RecordMetadata) -> None:
        """Wait until an erasure is applied, and clean up after it."""
        await self._applied.reach({USER_EVENTS: {placed.partition: placed.offset + 1}})
        await self._departures.clean()
