"""`user-histories`: writing a partition's checkpoints under a fence, and reading them.

Owns one transactional producer per partition, and the reading of what was committed. Promises that
once a writer has started, nothing more comes from an earlier one of the same partition, on whatever
worker: a worker that was stopped, lost its users and woke up late cannot overwrite what their new
owner wrote. And whatever is committed includes a mark that is not ahead of any history, so that
reading on from it misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import RecordMetadata

from .checkpoints import MARK_KEY, Mark, Withdrawn, Written, read_checkpoint, write_mark
from .errors import BrokerUnavailable, StreamError
from .publish import MAX_BATCH_BYTES, PublishFailed
from .reader import Record, TopicReader
from .settings import Kafka
from .topics import MAX_DEAD_LETTER_BYTES, USER_HISTORIES, USER_PARTITIONS

log = structlog.get_logger(__name__)

# A broker that is away is waited for; this ends the wait for one that stays away.
WRITE_TIMEOUT_S = 30.0
_READ_TIMEOUT_MS = 500


class Fenced(StreamError):
    """Another writer of this partition has started: its users are another worker's."""


class CheckpointWriter:
    """The one writer of a partition's checkpoints, from `start` until another one starts."""

    def __init__(self, kafka: Kafka, partition: int) -> None:
        self._kafka = kafka
        self._topic = kafka.topic(USER_HISTORIES)
        self._partition = partition
        self._producer: AIOKafkaProducer | None = None
        self._fenced: Fenced | None = None

    async def start(self) -> None:
        """Raise the fence: transactions of earlier writers are aborted, and none follows.

        Raises:
            BrokerUnavailable: no broker answers in time.
        """
        # Made here and not in __init__: it binds to the running event loop.
        self._producer = producer = AIOKafkaProducer(
            **self._kafka.client_options(),
            transactional_id=self._kafka.topic(f"histories-{self._partition}"),
            compression_type="lz4",
            max_batch_size=MAX_BATCH_BYTES,
            # Far more than a part of a checkpoint; the topic's own limit counts after compression.
            max_request_size=MAX_DEAD_LETTER_BYTES,
        )
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await producer.start()
        except (KafkaError, TimeoutError) as error:
            await self.stop()
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error

    async def stop(self) -> None:
        """Disconnect; a transaction that is open is aborted by whoever comes next."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def write(self, records: Iterable[Written | Withdrawn], mark: Mark) -> None:
        """Write checkpoints and a mark, all or none.

        Raises:
            Fenced: another writer has started.
            PublishFailed: Kafka did not take them.
        """
        producer = self._producer
        assert producer is not None, "start the writer first"
        if self._fenced is not None:
            raise self._fenced
        place = f"{self._topic} partition {self._partition}"
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), producer.transaction():
                for key, value in (*records, write_mark(mark)):
                    sent = await producer.send(self._topic, value, key, partition=self._partition)
                    # The commit has its failure too.
                    sent.add_done_callback(_retrieve)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            self._fenced = Fenced(f"{place}: another worker has taken it over")
            raise self._fenced from error
        except (KafkaError, TimeoutError) as error:
            raise PublishFailed(f"{place}: {error!r}") from error


async def read_checkpoints(kafka: Kafka, partitions: Iterable[int]) -> AsyncIterator[list[Record]]:
    """What is committed on these partitions now, in order within each.

    Raises:
        StreamError: as `TopicReader`.
    """
    topic = kafka.topic(USER_HISTORIES)
    async with TopicReader(kafka, [topic], only=partitions, committed=True) as reader:
        ends = (await reader.end_offsets())[topic]
        while any(reader.positions()[topic][number] < end for number, end in ends.items()):
            yield await reader.read(_READ_TIMEOUT_MS)


async def read_erasures(kafka: Kafka, source: str) -> dict[tuple[int, int], int]:
    """(partition, user) -> the offset of `source` before which the user is erased, for all who are.

    Raises:
        StreamError: as `TopicReader`.
    """
    erased: dict[tuple[int, int], int] = {}
    async for records in read_checkpoints(kafka, range(USER_PARTITIONS)):
        for record in records:
            if record.key is not None and record.value is not None and record.key != MARK_KEY:
                user_id, _, checkpoint = read_checkpoint(record.key, record.value)
                if checkpoint.source == source and checkpoint.erased_before is not None:
                    erased[record.partition, user_id] = checkpoint.erased_before
    return erased


def _retrieve(sent: asyncio.Future[RecordMetadata]) -> None:
    if not sent.cancelled():
        sent.exception()
