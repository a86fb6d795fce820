"""Writing records to Kafka.

Owns a producer that writes each record once and in order per partition, even over a broker's
restart, and places keys as every other Kafka client does (murmur2). Promises that no failure is
lost: it is in the record's future, in the log, and in the next `flush`. What the bytes mean is
stream.codec's part.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from .errors import BrokerUnavailable, StreamError
from .settings import Kafka
from .topics import MAX_DEAD_LETTER_BYTES

log = structlog.get_logger(__name__)

Headers: TypeAlias = Sequence[tuple[str, bytes]]
Outgoing: TypeAlias = tuple[str, bytes | None, bytes | None, Headers]
"""Topic as on the cluster, key, value, headers."""

# Replays fill batches; a bigger batch compresses better and costs fewer requests. A lone record
# does not wait for others: there is no linger.
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
            bootstrap_servers=self._kafka.bootstrap,
            client_id=self._kafka.client_id,
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
        try:
            if key is None and value is None:
                written = await self._send_void(producer, topic, headers, partition)
            else:
                written = await producer.send(
                    topic, value, key, partition=partition, headers=list(headers)
                )
        except KafkaError as error:
            raise PublishFailed(f"{topic}: {error!r}") from error
        written.add_done_callback(self._note)
        return written

    async def send_all(self, records: Iterable[Outgoing]) -> None:
        """Send `records` in order and return when the broker has them all.

        Raises:
            PublishFailed: at least one was not written.
        """
        for topic, key, value, headers in records:
            await self.send(topic, key, value, headers)
        await self.flush()

    async def flush(self) -> None:
        """Wait until every record sent so far is written.

        Raises:
            PublishFailed: at least one record since the last flush was not.
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

    async def _send_void(
        self, producer: AIOKafkaProducer, topic: str, headers: Headers, partition: int | None
    ) -> Future[RecordMetadata]:
        """A record with neither key nor value, which aiokafka takes only as a batch of its own."""
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=None, headers=list(headers))
        where = (await self.partitions(topic))[0] if partition is None else partition
        written: Future[RecordMetadata] = await producer.send_batch(batch, topic, partition=where)
        return written

    def _note(self, written: Future[RecordMetadata]) -> None:
        if written.cancelled():
            return
        failure = written.exception()
        if failure is not None:
            if self._failure is None:
                log.error("record_not_published", error=repr(failure))
            self._failure = self._failure or failure
