"""Publishing and reading on a real cluster: order, positions, ends, and offsets that are gone."""

import random
import time
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from stream.errors import BrokerUnavailable
from stream.publish import Publisher, PublishFailed
from stream.reader import OffsetsOutOfRange, Record, TopicMissing, TopicReader
from stream.settings import Kafka
from stream.topics import TopicSpec, create_missing

DEADLINE_S = 20.0

# What Java's murmur2 gives for these keys, from the tests of Apache Kafka's clients.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"abc": 479470107,
}


@pytest.fixture
async def publisher(kafka: Kafka) -> AsyncIterator[Publisher]:
    async with Publisher(kafka) as publisher:
        yield publisher


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    """A topic of two partitions."""
    name = kafka.topic("numbers")
    await create_missing(kafka, [TopicSpec(name, 2, {"max.message.bytes": "500000"})])
    return name


async def read_until(reader: TopicReader, done: Callable[[list[Record]], bool]) -> list[Record]:
    """Read until `done` holds for all records read."""
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while not done(records):
        assert time.monotonic() < deadline, f"only {len(records)} records arrived"
        records += await reader.read(timeout_ms=200)
    return records


async def send_numbers(publisher: Publisher, topic: str, numbers: range) -> None:
    """Number n under the key n % 10."""
    await publisher.send_all(
        [(topic, b"%d" % (number % 10), b"%d" % number, ()) for number in numbers]
    )


async def test_every_record_is_read_once_and_in_order_per_partition(
    kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    count = 30_000  # several batches for each partition
    await send_numbers(publisher, topic, range(count))

    async with TopicReader(kafka, [topic]) as reader:
        records = await read_until(reader, lambda records: len(records) >= count)
        assert await reader.read(timeout_ms=50) == []

    assert sorted(int(record.value or b"") for record in records) == list(range(count))
    for partition in (0, 1):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    by_key: dict[bytes | None, list[int]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(int(record.value or b""))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_reader_goes_on_exactly_where_its_positions_say(
    kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    await send_numbers(publisher, topic, range(500))

    first: list[Record] = []
    async with TopicReader(kafka, [topic]) as reader:
        deadline = time.monotonic() + DEADLINE_S
        while len(first) < 130:
            assert time.monotonic() < deadline
            first += await reader.read(timeout_ms=200, max_records=130 - len(first))
        positions = reader.positions()
    async with TopicReader(kafka, [topic], positions) as reader:
        rest = await read_until(reader, lambda records: len(records) >= 370)

    assert sorted(int(r.value or b"") for r in first + rest) == list(range(500))


async def test_a_reader_that_has_read_all_stands_at_the_ends(
    kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    await send_numbers(publisher, topic, range(100))

    async with TopicReader(kafka, [topic]) as reader:
        await read_until(reader, lambda records: len(records) >= 100)
        assert sum(reader.positions()[topic].values()) == 100
        assert reader.known_ends() == await reader.end_offsets() == reader.positions()


async def test_paused_topic_gives_nothing_until_resumed(
    kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    other = kafka.topic("other")
    await create_missing(kafka, [TopicSpec(other, 1, {})])

    async with TopicReader(kafka, [topic, other]) as reader:
        reader.pause(topic)
        await send_numbers(publisher, topic, range(10))
        await send_numbers(publisher, other, range(10))
        records = await read_until(reader, lambda records: len(records) >= 10)
        assert {record.topic for record in records} == {other}

        reader.resume(topic)
        records = await read_until(reader, lambda records: len(records) >= 10)
        assert {record.topic for record in records} == {topic}


async def test_missing_topic_is_named(kafka: Kafka) -> None:
    with pytest.raises(TopicMissing, match=kafka.topic("nowhere")):
        await TopicReader(kafka, [kafka.topic("nowhere")]).start()


async def test_absent_broker_is_named() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await TopicReader(Kafka("127.0.0.1:1"), ["ads"]).start()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await Publisher(Kafka("127.0.0.1:1")).start()


@pytest.mark.parametrize("positions", [{0: 11}, {1: 1}, {7: 0}], ids=["after", "empty", "gone"])
async def test_positions_that_the_topic_never_had_are_refused(
    positions: dict[int, int], kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    for number in range(10):
        await publisher.send(topic, b"key", b"%d" % number, partition=0)
    await publisher.flush()

    with pytest.raises(OffsetsOutOfRange, match=topic):
        await TopicReader(kafka, [topic], {topic: positions}).start()


async def test_records_that_expired_are_an_error_and_not_a_gap(
    kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    for number in range(10):
        await publisher.send(topic, b"key", b"%d" % number, partition=0)
    await publisher.flush()

    async with TopicReader(kafka, [topic], {topic: {0: 3, 1: 0}}) as reader:
        reader.pause(topic)
        await expire(kafka, topic, before_offset=6)
        reader.resume(topic)
        with pytest.raises(OffsetsOutOfRange, match="expired"):
            await read_until(reader, lambda records: any(r.offset >= 6 for r in records))
    with pytest.raises(OffsetsOutOfRange, match="offsets 6 to 10, not 3"):
        await TopicReader(kafka, [topic], {topic: {0: 3}}).start()


async def test_null_key_null_value_and_headers_arrive_as_they_were_sent(
    kafka: Kafka, publisher: Publisher, topic: str
) -> None:
    headers = [("twice", b"1"), ("twice", b"\x00\xff")]
    for key, value in ((b"k", None), (None, b"v"), (None, None)):
        await publisher.send(topic, key, value, headers, partition=0)
    await publisher.flush()

    async with TopicReader(kafka, [topic]) as reader:
        records = await read_until(reader, lambda records: len(records) >= 3)

    assert [(r.key, r.value) for r in records] == [(b"k", None), (None, b"v"), (None, None)]
    assert all(list(record.headers) == headers for record in records)


async def test_keys_go_to_the_partitions_that_java_clients_choose(
    kafka: Kafka, publisher: Publisher
) -> None:
    topic = kafka.topic("users")
    await create_missing(kafka, [TopicSpec(topic, 8, {})])

    expected = {key: (murmur2 & 0x7FFFFFFF) % 8 for key, murmur2 in JAVA_MURMUR2.items()}
    for key, partition in expected.items():
        assert (await (await publisher.send(topic, key, b""))).partition == partition
    await publisher.send_all([(topic, key, b"", ()) for key in expected])

    async with TopicReader(kafka, [topic]) as reader:
        records = await read_until(reader, lambda records: len(records) >= 2 * len(expected))
    assert {(record.key, record.partition) for record in records} == set(expected.items())


async def test_record_that_kafka_refuses_fails_its_future_and_the_flush(
    publisher: Publisher, topic: str
) -> None:
    written = await publisher.send(topic, b"big", random.Random(1).randbytes(1_000_000))
    with pytest.raises(PublishFailed, match="MessageSizeTooLarge"):
        await publisher.flush()
    assert written.exception() is not None

    await publisher.send(topic, b"small", b"")
    await publisher.flush()  # told once


async def test_bulk_with_a_record_that_kafka_refuses_says_so_and_no_later_flush_does(
    publisher: Publisher, topic: str
) -> None:
    big = random.Random(1).randbytes(1_000_000)
    with pytest.raises(PublishFailed, match="MessageSizeTooLarge"):
        await publisher.send_all([(topic, b"small", b"", ()), (topic, b"big", big, ())])
    await publisher.flush()


async def expire(kafka: Kafka, topic: str, before_offset: int) -> None:
    """Do what retention does: drop partition 0's records before an offset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset)})
    finally:
        await admin.close()
