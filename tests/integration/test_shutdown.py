"""SIGTERM at any moment: nothing is lost, and a second one does not wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from stream import topics
from stream.codec import encode_ad, encode_event, encode_id, encode_request
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import Ad, ScoreRequest, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, SCORE_REQUESTS, SCORE_RESPONSES, USER_EVENTS

WriteConfig = Callable[..., Path]
Json = dict[str, Any]

STALLING = ("-m", "tests.integration.programs.stalling_worker")
DEADLINE_S = 60.0


class Load:
    """Ads, events and requests, one of each at a time, until told to stop."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self.sent = 0
        self.stopped = False

    async def run(self) -> None:
        async with Publisher(self._kafka) as publisher:
            while not self.stopped:
                n, key = self.sent, encode_id(10 + self.sent % 40)
                event = UserEvent(f"e{n}", None, "buy", n)
                ask = ScoreRequest(request_id=f"r{n}", user_id=10 + n % 40)
                for topic, value in (
                    (ADS, encode_ad(Ad(1 + n, "acme", "c", {}))),
                    (USER_EVENTS, encode_event(event)),
                    (SCORE_REQUESTS, encode_request(ask)),
                ):
                    await publisher.send(self._kafka.topic(topic), key, value)
                self.sent += 1
                await asyncio.sleep(0.005)
            await publisher.flush()


async def answers(kafka: Kafka, count: int) -> dict[str, Json]:
    """All answers, by request, once there are that many."""
    found: dict[str, Json] = {}
    deadline = time.monotonic() + DEADLINE_S
    async with TopicReader(kafka, [kafka.topic(SCORE_RESPONSES)]) as reader:
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} answers"
            for record in await reader.read(100):
                body = json.loads(record.value or b"")
                found[body["request_id"]] = body
    return found


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_nothing_is_lost_when_a_worker_is_stopped_under_load_in_a_rebalance(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request is answered, by one worker or the other, and every record is in the state."""
    await topics.create_missing(kafka)
    config, log = write_config(tmp_path, kafka), tmp_path / "first.log"
    first = WorkerProcess(config, log)
    second = WorkerProcess(config, tmp_path / "second.log", STALLING)
    load = Load(kafka)
    loading: asyncio.Task[None] | None = None
    try:
        async with WorkerClient(await first.start()) as client:
            await first.wait_ready(client)
            loading = asyncio.create_task(load.run())
            monkeypatch.setenv("HEADWATER_WORKER__ID", "second")
            client.move(await second.start())
            revoked = b'"partitions": [], "event": "request_partitions_owned"'
            # Once when it joined, and again when the second one does.
            await until(lambda: log.read_bytes().count(revoked) == 2)
            assert await first.stop() == 0
            text = log.read_text()
            assert '"snapshot_written"' in text
            assert '"stop_timed_out"' not in text

            await second.wait_ready(client)
            load.stopped = True
            await loading
            found = await answers(kafka, load.sent)
            assert [body["error"] for body in found.values() if body["error"]] == []
            for topic in (ADS, USER_EVENTS):
                await applied(client, topic, load.sent)

            await a_second_signal_ends_it_at_once(second, client)
    finally:
        load.stopped = True
        if loading is not None:
            await asyncio.wait([loading])
        await first.stop()
        await second.stop()


async def applied(client: WorkerClient, topic: str, count: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while sum((await client.get("/v1/status"))["offsets"][topic].values()) != count:
        assert time.monotonic() < deadline, topic
        await asyncio.sleep(0.02)


async def a_second_signal_ends_it_at_once(worker: WorkerProcess, client: WorkerClient) -> None:
    """The first waits for the answer of a slow request, with readiness off."""
    asking = asyncio.create_task(client.post("/v1/score", {"request_id": "stall", "user_id": "1"}))
    await asyncio.sleep(0.2)
    os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + DEADLINE_S
    while "stopping" not in await client.text("/readyz"):
        assert time.monotonic() < deadline
    os.kill(worker.pid, signal.SIGTERM)
    assert await worker.ended(DEADLINE_S) == -signal.SIGTERM
    await asyncio.wait([asking])
    assert asking.exception() is not None


async def test_a_worker_that_is_stopped_while_it_starts_ends_with_code_0(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    worker = WorkerProcess(write_config(tmp_path, kafka), tmp_path / "worker.log")
    await worker.start()
    assert await worker.stop() == 0
    assert '"worker_ready"' not in (tmp_path / "worker.log").read_text()
