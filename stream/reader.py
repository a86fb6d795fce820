"""Reading topics from the offsets that their reader's own state names.

Owns a consumer without a group: it reads every partition of its topics, or those that it is told to
follow, from the offsets it is given, and commits nothing. Promises the records of a partition in
order, without a gap, or an error that says which offsets are gone. Keeping the next offsets beside
what the records produced is the caller's part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from .errors import BrokerUnavailable, StreamError
from .settings import Kafka

log = structlog.get_logger(__name__)

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
Offsets: TypeAlias = dict[str, dict[int, int]]
"""Topic as on the cluster -> partition -> next offset."""

# A fetch in flight covers the partitions that had been read out when it was sent. The others, also
# those just resumed, wait for its end: so this bounds their delay, at ten idle requests a second.
FETCH_MAX_WAIT_MS = 100


class TopicMissing(StreamError):
    """A topic to read is not on the cluster."""


class OffsetsOutOfRange(StreamError):
    """The records to go on with are not on the cluster: expired, or the topic is another one."""


class ReadFailed(StreamError):
    """The broker answers, but not with the records; the message has its reason."""


class TopicReader:
    """Reads all partitions of `topics`, or some.

    Use it as `async with`, or call `start` and `stop`.

    Args:
        kafka: the cluster.
        topics: names as on the cluster, with the prefix.
        positions: topic -> partition -> the offset to start at; a missing one starts at the
            oldest record.
        from_end: a missing one starts after the newest record instead.
        only: the partitions to begin with; None: all.
        committed: leave out the records of transactions that were aborted or are not yet committed.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Iterable[str],
        positions: Mapping[str, Mapping[int, int]] | None = None,
        *,
        from_end: bool = False,
        only: Iterable[int] | None = None,
        committed: bool = False,
    ) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._positions: Offsets = {
            topic: dict((positions or {}).get(topic, {})) for topic in self._topics
        }
        self._from_end = from_end
        self._only = None if only is None else frozenset(only)
        self._isolation = "read_committed" if committed else "read_uncommitted"
        self._partitions: list[TopicPartition] = []
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect, and check that the cluster has what the positions ask for.

        Raises:
            BrokerUnavailable: no broker answers.
            TopicMissing: create the topic first.
            OffsetsOutOfRange: a position is before the oldest record or after the newest.
        """
        try:
            self._partitions = await self._find_partitions()
            await self._start_consumer()
        except KafkaError as error:
            await self.stop()
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error
        except BaseException:
            await self.stop()
            raise
        log.info("reader_started", positions=self._positions)

    async def stop(self) -> None:
        """Disconnect; the positions stay readable."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def __aenter__(self) -> TopicReader:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def follow(self, partitions: Mapping[int, int]) -> None:
        """Read exactly these partitions of the one topic from now on; not while `read` runs.

        Args:
            partitions: number -> where to begin, if it is not read already.

        Raises:
            BrokerUnavailable: no broker answers.
            OffsetsOutOfRange: the cluster has no such offset.
        """
        (topic,) = self._topics
        read = {partition.partition for partition in self._partitions}
        added = {number: partitions[number] for number in partitions.keys() - read}
        for number, (start, end) in (await self.bounds(added)).items():
            self._checked(topic, number, added[number], start, end)
        known = {number: self._positions[topic][number] for number in read & partitions.keys()}
        self._positions[topic] = {**known, **added}
        self._partitions = sorted(TopicPartition(topic, number) for number in partitions)
        self._assign(self._started())
        log.info("reader_follows", topic=topic, positions=self._positions[topic])

    async def bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Partition of the one topic -> its oldest offset and the one after its newest, now.

        Raises:
            BrokerUnavailable: no broker answers.
        """
        (topic,) = self._topics
        wanted = [TopicPartition(topic, number) for number in partitions]
        if not wanted:
            return {}
        consumer = self._started()
        try:
            starts = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
        except KafkaError as error:
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error
        return {each.partition: (starts[each], ends[each]) for each in wanted}

    async def read(self, timeout_ms: int, max_records: int | None = None) -> list[Record]:
        """The next records: in order within a partition, partitions one after another.

        Args:
            timeout_ms: how long to wait when there is none; then the list is empty.
            max_records: at most so many; None for all that have arrived.

        Raises:
            OffsetsOutOfRange: records expired before they were read.
            ReadFailed: the broker refuses.
        """
        consumer = self._started()
        if not self._partitions:
            await asyncio.sleep(timeout_ms / 1e3)
            return []
        try:
            batches = await consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise OffsetsOutOfRange(
                f"{error}: these records expired before they were read; start again from empty "
                "state, and read faster or keep records longer"
            ) from error
        except KafkaError as error:
            raise ReadFailed(f"{self._kafka.bootstrap}: {error!r}") from error
        # The consumer's own positions: they step over control records and compacted ones.
        for partition in self._partitions:
            position = await consumer.position(partition)
            self._positions[partition.topic][partition.partition] = position
        return list(chain.from_iterable(batches.values()))

    def positions(self) -> Offsets:
        """Where the next `read` goes on; everything before it has been returned."""
        return {topic: dict(offsets) for topic, offsets in self._positions.items()}

    def known_ends(self) -> Offsets:
        """The newest ends that fetches have told, without asking; at least the positions."""
        consumer = self._started()
        ends = self.positions()
        for partition in self._partitions:
            topic, number = partition
            ends[topic][number] = max(ends[topic][number], consumer.highwater(partition) or 0)
        return ends

    def heard_ms(self) -> float:
        """When the broker last answered a fetch of every partition, epoch ms; 0 before that.

        It answers every `FETCH_MAX_WAIT_MS` when there is nothing, so a later time than that means
        that the partition is paused or the broker away.
        """
        consumer = self._started()
        return min(
            (consumer.last_poll_timestamp(partition) or 0 for partition in self._partitions),
            default=0,
        )

    async def end_offsets(self) -> Offsets:
        """The offset after the newest record of each partition, asked of the cluster now."""
        if not self._partitions:
            return self.positions()
        try:
            ends = await self._started().end_offsets(self._partitions)
        except KafkaError as error:
            raise BrokerUnavailable(f"{self._kafka.bootstrap}: {error!r}") from error
        return self._by_topic(ends)

    def pause(self, topic: str) -> None:
        """Return no records of `topic` until it is resumed; its positions stay."""
        self._started().pause(*self._of(topic))

    def resume(self, topic: str) -> None:
        """Return its records again."""
        self._started().resume(*self._of(topic))

    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "start the reader first"
        return self._consumer

    def _of(self, topic: str) -> list[TopicPartition]:
        return [partition for partition in self._partitions if partition.topic == topic]

    def _by_topic(self, offsets: Mapping[TopicPartition, int]) -> Offsets:
        found: Offsets = {topic: {} for topic in self._topics}
        for (topic, number), offset in offsets.items():
            found[topic][number] = offset
        return found

    async def _find_partitions(self) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(**self._kafka.client_options())
        try:
            await admin.start()
            # All topics: asking for one by name creates it on a broker that auto-creates.
            described = await admin.describe_topics()
        finally:
            await admin.close()
        known = {topic["topic"]: topic["partitions"] for topic in described}
        for topic in self._topics:
            if not known.get(topic):
                raise TopicMissing(f"{topic}: not on {self._kafka.bootstrap}; create topics first")
        return sorted(
            TopicPartition(topic, partition["partition"])
            for topic in self._topics
            for partition in known[topic]
            if self._only is None or partition["partition"] in self._only
        )

    async def _start_consumer(self) -> None:
        # Made here and not in __init__: it binds to the running event loop.
        self._consumer = consumer = AIOKafkaConsumer(
            **self._kafka.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            isolation_level=self._isolation,
        )
        await consumer.start()
        if self._partitions:
            self._check_positions(
                self._by_topic(await consumer.beginning_offsets(self._partitions)),
                self._by_topic(await consumer.end_offsets(self._partitions)),
            )
            self._assign(consumer)

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        # No await between assigning and seeking: the consumer must not look for offsets itself.
        consumer.assign(self._partitions)
        for partition in self._partitions:
            consumer.seek(partition, self._positions[partition.topic][partition.partition])

    def _check_positions(self, starts: Offsets, ends: Offsets) -> None:
        """Fill in the positions that are missing; refuse those that the cluster does not have."""
        for topic, offsets in self._positions.items():
            for number in offsets.keys() - starts[topic].keys():
                raise OffsetsOutOfRange(
                    f"{topic} has no partition {number}, but state was read from it; the topic "
                    "was created anew: start again from empty state"
                )
            for number, start in starts[topic].items():
                end = ends[topic][number]
                position = offsets.setdefault(number, end if self._from_end else start)
                self._checked(topic, number, position, start, end)

    def _checked(self, topic: str, number: int, position: int, start: int, end: int) -> None:
        if not start <= position <= end:
            raise OffsetsOutOfRange(
                f"{topic} partition {number} has offsets {start} to {end}, "
                f"not {position}; records expired or the topic was created anew: start "
                "again from empty state"
            )
