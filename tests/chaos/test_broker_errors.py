"""Whatever a broker answers, what is written comes out once and in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from random import Random

import pytest
from chaos_rounds.mock_cluster import Api, MockCluster

from stream.errors import BrokerUnavailable
from stream.publish import Publisher
from stream.reader import ReadFailed, TopicReader
from stream.settings import Kafka

TOPIC = "ads"
PARTITIONS = 4
BROKERS = 3
BURSTS = 6
BURST = 200

# What a client is to try again after, by number: an unknown leader, an old one, a time-out, too few
# replicas, and for fetches an offset that a new leader does not have yet.
RETRIABLE = {
    Api.PRODUCE: (5, 6, 7, 19, 20),
    Api.FETCH: (5, 6, 7, 9),
    Api.METADATA: (5, 7),
    Api.LIST_OFFSETS: (5, 6, 7),
}


@pytest.mark.parametrize("seed", range(2))
async def test_records_survive_errors_moving_leaders_and_lost_brokers(seed: int) -> None:
    random = Random(seed)
    with MockCluster(BROKERS) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        kafka = Kafka(cluster.bootstrap)
        async with asyncio.timeout(120):
            async with Publisher(kafka) as publisher:
                for burst in range(BURSTS):
                    _hurt(cluster, random)
                    first = burst * BURST
                    await publisher.send_all(
                        (TOPIC, b"%d" % (number % 37), b"%d" % number, ())
                        for number in range(first, first + BURST)
                    )
            found = await _read(kafka, cluster, random)
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(BURSTS * BURST))
    by_key: dict[int, list[int]] = defaultdict(list)
    for numbers in found.values():
        for number in numbers:
            by_key[number % 37].append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def _read(kafka: Kafka, cluster: MockCluster, random: Random) -> dict[int, list[int]]:
    """Values by partition; a reader that gives up is made anew where it was."""
    found: dict[int, list[int]] = defaultdict(list)
    positions: dict[str, dict[int, int]] = {}
    while sum(map(len, found.values())) < BURSTS * BURST:
        with suppress(BrokerUnavailable, ReadFailed):
            async with TopicReader(kafka, [TOPIC], positions) as reader:
                while sum(map(len, found.values())) < BURSTS * BURST:
                    _hurt(cluster, random)
                    for record in await reader.read(500, max_records=150):
                        assert record.value is not None
                        found[record.partition].append(int(record.value))
                    positions = reader.positions()
    return found


def _hurt(cluster: MockCluster, random: Random) -> None:
    """Some error codes to come, a leader elsewhere, and one broker down at most."""
    for api, codes in RETRIABLE.items():
        cluster.fail(api, random.choices(codes, k=random.randrange(3)))
    down = random.randrange(BROKERS + 1)
    for broker in range(1, BROKERS + 1):
        cluster.set_broker(broker, up=broker != down)
    up = [broker for broker in range(1, BROKERS + 1) if broker != down]
    for partition in range(PARTITIONS):
        cluster.lead(TOPIC, partition, random.choice(up))
