"""Score requests through the Faust agent: delivery, ownership, and a handler that fails."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stream import requests
from stream.publish import Publisher
from stream.requests import RequestAgent, RequestMessage
from stream.settings import Kafka
from stream.topics import SCORE_REQUESTS, create_missing, topic_specs

DEADLINE_S = 30.0
FAUST_WEB_PORT = 6066

Handler = Callable[[RequestMessage], Awaitable[None]]
Start = Callable[[str, Handler], Awaitable[RequestAgent]]


@pytest.fixture
async def start(kafka: Kafka, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts agents by worker id; those still running are stopped at the end."""
    topic = kafka.topic(SCORE_REQUESTS)
    await create_missing(kafka, [spec for spec in topic_specs(kafka.prefix) if spec.name == topic])
    agents: list[RequestAgent] = []

    async def start(worker_id: str, handler: Handler) -> RequestAgent:
        agent = RequestAgent(kafka, "headwater", worker_id, tmp_path / worker_id, handler)
        agents.append(agent)
        await agent.start()
        return agent

    yield start
    for agent in agents:
        await agent.stop()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


async def test_requests_arrive_whole_and_in_order_per_partition(kafka: Kafka, start: Start) -> None:
    seen: list[RequestMessage] = []

    async def handler(message: RequestMessage) -> None:
        seen.append(message)

    agent = await start("w1", handler)
    await until(lambda: agent.partitions() == set(range(8)))
    before_ms = time.time() * 1000
    async with Publisher(kafka) as publisher:
        topic, headers = kafka.topic(SCORE_REQUESTS), [("trace", b"\x00\xff")]
        await publisher.send_all(
            [(topic, b"%d" % (n % 20), b"%d" % n, headers) for n in range(200)]
        )
    await until(lambda: len(seen) >= 200)

    assert sorted(int(message.value or b"") for message in seen) == list(range(200))
    for partition in range(8):
        offsets = [message.offset for message in seen if message.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert all(list(message.headers) == headers for message in seen)
    assert all(before_ms - 1 <= message.timestamp <= time.time() * 1000 + 1 for message in seen)
    assert all(message.topic == topic for message in seen)
    assert agent.failure() is None


async def test_null_key_and_null_value_are_handed_over(kafka: Kafka, start: Start) -> None:
    seen: list[tuple[bytes | None, bytes | None]] = []

    async def handler(message: RequestMessage) -> None:
        seen.append((message.key, message.value))

    await start("w1", handler)
    async with Publisher(kafka) as publisher:
        for key, value in ((None, b"v"), (b"k", None), (None, None), (b"k", b"v")):
            await publisher.send(kafka.topic(SCORE_REQUESTS), key, value, partition=3)
        await publisher.flush()

    await until(lambda: len(seen) >= 4)
    assert seen == [(None, b"v"), (b"k", None), (None, None), (b"k", b"v")]


async def test_handler_that_raises_costs_its_own_message_only(kafka: Kafka, start: Start) -> None:
    seen: list[bytes | None] = []

    async def handler(message: RequestMessage) -> None:
        seen.append(message.value)
        if message.value == b"1":
            raise RuntimeError("the handler's own fault")

    agent = await start("w1", handler)
    async with Publisher(kafka) as publisher:
        for n in range(4):
            await publisher.send(kafka.topic(SCORE_REQUESTS), b"key", b"%d" % n)
        await publisher.flush()

    await until(lambda: len(seen) >= 4)
    assert seen == [b"0", b"1", b"2", b"3"]
    assert agent.failure() is None


async def test_requests_handled_before_a_clean_stop_do_not_come_again(
    kafka: Kafka, start: Start
) -> None:
    seen: list[bytes | None] = []

    async def handler(message: RequestMessage) -> None:
        seen.append(message.value)

    async with Publisher(kafka) as publisher:
        agent = await start("w1", handler)
        await (await publisher.send(kafka.topic(SCORE_REQUESTS), b"key", b"first"))
        await until(lambda: len(seen) >= 1)
        await agent.stop()

        await (await publisher.send(kafka.topic(SCORE_REQUESTS), b"key", b"second"))
        await start("w1", handler)
        await until(lambda: len(seen) >= 2)

    assert seen == [b"first", b"second"]


async def test_two_workers_share_the_partitions_and_one_alone_has_them_all(start: Start) -> None:
    async def handler(_: RequestMessage) -> None: ...

    everything = set(range(8))
    first = await start("w1", handler)
    await until(lambda: first.partitions() == everything)

    second = await start("w2", handler)
    await until(
        lambda: (
            bool(first.partitions())
            and bool(second.partitions())
            and first.partitions() | second.partitions() == everything
        )
    )
    assert not first.partitions() & second.partitions()

    await second.stop()
    await until(lambda: first.partitions() == everything)


async def test_a_worker_that_stops_gives_its_partitions_away_before_its_session_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SESSION_TIMEOUT_S", 2 * DEADLINE_S)

    async def handler(_: RequestMessage) -> None: ...

    first, second = await start("w1", handler), await start("w2", handler)
    await until(lambda: len(first.partitions()) == len(second.partitions()) == 4)
    await second.stop()
    await until(lambda: len(first.partitions()) == 8)


async def test_worker_that_restarts_is_back_without_waiting_for_its_session(start: Start) -> None:
    async def handler(_: RequestMessage) -> None: ...

    first = await start("w1", handler)
    await until(lambda: len(first.partitions()) == 8)
    await first.stop()

    again = await start("w1", handler)
    await until(lambda: len(again.partitions()) == 8)


async def test_agent_serves_no_http_of_its_own(start: Start) -> None:
    async def handler(_: RequestMessage) -> None: ...

    agent = await start("w1", handler)
    await until(lambda: len(agent.partitions()) == 8)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", FAUST_WEB_PORT), timeout=1)
