"""The broker dies and comes back: publisher, reader and agent go on, and nothing is lost."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.broker import Broker
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.requests import RequestAgent, RequestMessage
from stream.settings import Kafka
from stream.topics import SCORE_REQUESTS, create_missing, topic_specs

DEADLINE_S = 60.0
BEFORE = 500
AFTER = 500


@pytest.fixture
def broker(tmp_path: Path, kafka_jars: Path) -> Iterator[Broker]:
    """A broker of this test's own, to be killed."""
    broker = Broker(tmp_path / "kafka", lib=kafka_jars)
    yield broker
    broker.stop()


async def test_every_record_arrives_once_over_a_killed_broker(
    broker: Broker, tmp_path: Path
) -> None:
    kafka = Kafka(await asyncio.to_thread(broker.start))
    topic = kafka.topic(SCORE_REQUESTS)
    await create_missing(kafka, [spec for spec in topic_specs() if spec.name == topic])
    read: list[int] = []
    handled: list[int] = []

    async def handler(message: RequestMessage) -> None:
        handled.append(int(message.value or b""))

    async def read_on(reader: TopicReader) -> None:
        while True:
            read.extend(int(m.value or b"") for m in await reader.read(timeout_ms=200))

    agent = RequestAgent(kafka, "headwater", "w1", tmp_path / "faust", handler)
    await agent.start()
    async with Publisher(kafka) as publisher, TopicReader(kafka, [topic]) as reader:
        reading = asyncio.create_task(read_on(reader))
        for n in range(BEFORE):
            await publisher.send(topic, b"%d" % (n % 50), b"%d" % n)
        await until(lambda: len(read) >= BEFORE and len(handled) >= BEFORE)

        pid = broker.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        # Some are sent to nobody, some while it starts.
        starting = asyncio.create_task(asyncio.to_thread(broker.start))
        for n in range(BEFORE, BEFORE + AFTER):
            await publisher.send(topic, b"%d" % (n % 50), b"%d" % n)
            await asyncio.sleep(0)
        await starting
        await publisher.flush()
        await until(lambda: len(set(read)) >= BEFORE + AFTER)
        await until(lambda: len(set(handled)) >= BEFORE + AFTER)
        reading.cancel()
    await agent.stop()

    assert sorted(read) == list(range(BEFORE + AFTER))
    assert sorted(set(handled)) == list(range(BEFORE + AFTER))  # at least once
    assert agent.failure() is None


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.05)
