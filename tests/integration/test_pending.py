"""Requests that nobody takes show as pending, though who should take them says nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from daemon.pending import PendingWatch
from monitoring.freshness import LagTracker
from stream.publish import Publisher
from stream.requests import RequestAgent, RequestMessage
from stream.settings import Kafka
from stream.topics import ADS, SCORE_REQUESTS, TopicSpec, create_missing

DEADLINE_S = 30.0


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_ends_are_told_while_the_agent_and_the_reader_stand_still(
    kafka: Kafka, tmp_path: Path
) -> None:
    free = asyncio.Event()

    async def handler(_: RequestMessage) -> None:
        await free.wait()

    specs = [TopicSpec(kafka.topic(name), 1, {}) for name in (ADS, SCORE_REQUESTS)]
    await create_missing(kafka, specs)
    lag = LagTracker()
    lag.note_applied(ADS, 0, 0, None)
    agent = RequestAgent(kafka, "headwater", "w1", tmp_path, handler)
    await agent.start()
    watching = asyncio.create_task(PendingWatch(kafka, [ADS], agent, lag).run())
    try:
        await until(lambda: lag.lag(SCORE_REQUESTS) == {0: 0})
        async with Publisher(kafka) as publisher:
            await publisher.send_all(
                [
                    (kafka.topic(name), b"1", b"v", ())
                    for name in (ADS, SCORE_REQUESTS, SCORE_REQUESTS)
                ]
            )
        await until(lambda: lag.lag(SCORE_REQUESTS) == {0: 2} and lag.lag(ADS) == {0: 1})
        await until(lambda: lag.standing_s(SCORE_REQUESTS) > 0 and lag.standing_s(ADS) > 0)
        free.set()
        await until(lambda: lag.lag(SCORE_REQUESTS) == {0: 0})
        assert lag.standing_s(SCORE_REQUESTS) == 0
    finally:
        free.set()
        watching.cancel()
        await agent.stop()
        for topic in (ADS, SCORE_REQUESTS):
            lag.forget(topic, 0)
