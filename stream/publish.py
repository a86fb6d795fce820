"""Writing records to Kafka.

Owns a producer that writes each record once and in order per partition, even over a broker's
restart, and places keys as every other Kafka client does (murmur2). Promises that no failure is
lost: `send` has it in its record's future, in the log and in the next `flush`, and `send_all`
raises it. What the bytes mean is stream.codec's part.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Iterable, Sequence
from random import randrange
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from .errors import BrokerUnavailable, StreamError
from .placement import partition_of
from .settings import Kafka
from .topics import MAX_DEAD_LETTER_BYTES

log = structlog.get_logger(__name__)

Headers: TypeAlias = Sequence[tuple[str, bytes]]
Outgoing: TypeAlias = tuple[str, bytes | None, bytes | None, Headers]
"""Topic as on the cluster, key, value, headers."""

# Replays fill batches; a bigger batch compresses better and costs fewer requests, but a topic's
# max.message.bytes bounds batches too. A lone record does not wait for others: there is no linger.
MAX_BATCH_BYTES = 256 << 10


class PublishFailed(StreamError):
    """Kafka did not take a record; the message says which topic and why."""


class Publisher:
    """An idempotent producer; use it as `async with`, or call `start` and `stop`."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._failure: BaseException | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: no broker answers.
        """
        # Made here and not in __init__: it binds to the running event loop.
        self._producer = AIOKafkaProducer(
            **self._kafka.client_options(),
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=MAX_BATCH_BYTES,
            # The topics' own limits are the ones to hold; this only must not be below them.
            max_request_size=MAX_DEAD_LETTER_BYTES,
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error

    async def stop(self) -> None:
        """Write what is pending, then disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def __aenter__(self) -> Publisher:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        partition: int | None = None,
    ) -> Future[RecordMetadata]:
        """Hand a record over to be written; waits only while too many are pending.

        Args:
            topic: its name as on the cluster, with the prefix.
            key: decides the partition; None: any partition.
            value: None deletes the key on a compacted topic.
            headers: (name, value) in order.
            partition: write there, whatever the key says.

        Returns:
            Done when the broker has it; nobody needs to await it.

        Raises:
            PublishFailed: the record cannot even be queued.
        """
        producer = self._started()
        if key is None and value is None:
            # aiokafka takes such a record only in a batch that is made by hand.
            batch = producer.create_batch()
            batch.append(timestamp=None, key=None, value=None, headers=list(headers))
            written = await self._submit(batch, topic, partition or 0)
        else:
            try:
                written = await producer.send(
                    topic, value, key, partition=partition, headers=list(headers)
                )
            except KafkaError as error:
                raise PublishFailed(f"{topic}: {error!r}") from error
        written.add_done_callback(self._note)
        return written

    async def send_all(self, records: Iterable[Outgoing]) -> None:
        """Write `records`, in order within a partition; return when the broker has them all.

        For many records: about eight times as fast as `send`, because no record has a future of
        its own. The last batches leave when `records` ends, so give it what is there already.

        Raises:
            PublishFailed: at least one was not written.
        """
        producer = self._started()
        written: list[Future[RecordMetadata]] = []
        counts: dict[str, int] = {}
        batches: dict[tuple[str, int], BatchBuilder] = {}
        for topic, key, value, headers in records:
            count = counts.get(topic)
            if count is None:
                count = counts[topic] = len(await self.partitions(topic))
            place = topic, _partition(key, count)
            batch = batches.get(place)
            # A full batch takes no more; an empty one takes any record.
            while batch is None or not batch.append(
                timestamp=None, key=key, value=value, headers=list(headers)
            ):
                if batch is not None:
                    written.append(await self._submit(batch, *place))
                batch = batches[place] = producer.create_batch()
        for place, batch in batches.items():
            written.append(await self._submit(batch, *place))
        for outcome in await asyncio.gather(*written, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise PublishFailed(f"{self._kafka.bootstrap}: {outcome!r}") from outcome

    async def flush(self) -> None:
        """Wait until everything sent so far is written.

        Raises:
            PublishFailed: at least one record of `send` since the last flush was not.
        """
        await self._started().flush()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise PublishFailed(f"{self._kafka.bootstrap}: {failure!r}") from failure

    async def partitions(self, topic: str) -> list[int]:
        """The partitions of `topic`, ascending."""
        try:
            return sorted(await self._started().partitions_for(topic))
        except KafkaError as error:
            raise PublishFailed(f"{topic}: {error!r}") from error

    def _started(self) -> AIOKafkaProducer:
        assert self._producer is not None, "start the publisher first"
        return self._producer

    async def _submit(
        self, batch: BatchBuilder, topic: str, partition: int
    ) -> Future[RecordMetadata]:
        """Queue a batch; waits until the one before it on its partition is on its way."""
        try:
            written: Future[RecordMetadata] = await self._started().send_batch(
                batch, topic, partition=partition
            )
        except KafkaError as error:
            raise PublishFailed(f"{topic}: {error!r}") from error
        return written

    def _note(self, written: Future[RecordMetadata]) -> None:
        if written.cancelled():
            return
        failure = written.exception()
        if failure is not None:
            log.error("record_not_published", error=repr(failure))
            self._failure = self._failure or failure


def _partition(key: bytes | None, count: int) -> int:
    """Where Kafka's clients put `key` among `count` partitions; without one, anywhere."""
    return randrange(count) if key is None else partition_of(key, count)
