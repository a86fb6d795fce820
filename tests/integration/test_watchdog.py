"""Workers that really stall: counted, told with stacks, not ready, and ended for a restart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from daemon.client import WorkerClient, WorkerUnreachable
from daemon.process import WorkerProcess
from stream import topics
from stream.broker import Broker
from stream.codec import encode_ad, encode_id
from stream.publish import Publisher
from stream.records import Ad
from stream.settings import Kafka
from stream.topics import ADS

WriteConfig = Callable[..., Path]
Json = dict[str, Any]

PROGRAM = "tests.integration.programs.stalling_worker"
DEADLINE_S = 30.0
LIMITS = """
[watchdog]
event_loop_s = 3.0
intake_s = 1.0
scoring_s = 1.0
position_s = 1.0
exit_after_s = {exit_after_s}
[shutdown]
grace_s = 2.0
[intake]
batch_records = 50
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path) -> Iterator[Broker]:
    """A broker that only this file's workers use, to be stopped in the midst of it."""
    broker = Broker(tmp_path_factory.mktemp("kafka"), lib=kafka_jars)
    yield broker
    broker.stop()


@pytest.fixture
def own_kafka(broker: Broker, prefix: str) -> Kafka:
    return Kafka(broker.start(), prefix)


@asynccontextmanager
async def running(
    folder: Path, kafka: Kafka, write_config: WriteConfig, exit_after_s: float
) -> AsyncIterator[tuple[WorkerProcess, WorkerClient]]:
    """A worker that can be made to stall, ready."""
    await topics.create_missing(kafka)
    config = write_config(folder, kafka, LIMITS.format(exit_after_s=exit_after_s))
    worker = WorkerProcess(config, folder / "worker.log", ["-m", PROGRAM])
    try:
        async with WorkerClient(await worker.start()) as client:
            await worker.wait_ready(client)
            yield worker, client
    finally:
        with suppress(ProcessLookupError):
            await worker.kill()


async def send(kafka: Kafka, ad_ids: range, padding: str = "") -> None:
    async with Publisher(kafka) as publisher:
        ad = encode_ad(Ad(1, "acme", "c", {"padding": {padding: 1.0}}))
        await publisher.send_all([(kafka.topic(ADS), encode_id(n), ad, ()) for n in ad_ids])


async def stalls(client: WorkerClient, part: str) -> float:
    page = await client.text("/metrics")
    (count,) = re.findall(rf'^headwater_stalls_total{{part="{part}"}} (.*)$', page, re.MULTILINE)
    return float(count)


async def until(client: WorkerClient, holds: Callable[[Json], bool]) -> Json:
    deadline = time.monotonic() + DEADLINE_S
    while not holds(status := await client.get("/v1/status")):
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.02)
    return status


def told(folder: Path, part: str) -> Json:
    """The last line of the log about a stall."""
    lines = (folder / "worker.log").read_text().splitlines()
    event: Json = json.loads([x for x in lines if '"stalled"' in x and part in x][-1])
    return event


async def test_a_scoring_stall_passes_and_a_stall_of_the_event_loop_ends_the_worker(
    own_kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    async with running(tmp_path, own_kafka, write_config, 4.0) as (worker, client):
        asking = asyncio.create_task(
            client.post("/v1/score", {"request_id": "stall", "user_id": "1"})
        )
        status = await until(client, lambda status: not status["ready"])
        assert "scoring thread has not moved" in status["reasons"]["watchdog"]
        assert await stalls(client, "scoring") == 1
        assert (await asking)["error"] is None
        await until(client, lambda status: bool(status["ready"]))

        asking = asyncio.create_task(client.get("/v1/ads/1"))
        assert await worker.ended(DEADLINE_S) == 1
        with pytest.raises(WorkerUnreachable):
            await asking
    stacks = told(tmp_path, "scoring thread")["stacks"]
    assert any(" score" in line for name in stacks if "scoring" in name for line in stacks[name])
    assert {"MainThread", "watchdog"} <= stacks.keys()
    assert any(" ad" in line for line in told(tmp_path, "event loop")["stacks"]["MainThread"])


async def test_a_stall_of_the_intake_thread_ends_the_worker_though_it_cannot_end_in_order(
    own_kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    async with running(tmp_path, own_kafka, write_config, 1.0) as (worker, client):
        await send(own_kafka, range(2, 3))
        status = await until(client, lambda status: not status["ready"])
        assert "intake thread has not moved" in status["reasons"]["watchdog"]
        assert await stalls(client, "intake") == 1
        assert await worker.ended(DEADLINE_S) == 1
    stacks = told(tmp_path, "intake thread")["stacks"]
    assert any(" decode" in line for name in stacks if "intake" in name for line in stacks[name])
    assert '"grace_time_over"' in (tmp_path / "worker.log").read_text()


async def test_a_position_that_stands_still_with_records_pending_ends_the_worker(
    broker: Broker, own_kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    """The broker is stopped while there is more to read than has been fetched."""
    pid = broker.status().pid
    assert pid is not None
    async with running(tmp_path, own_kafka, write_config, 1.0) as (worker, client):
        await send(own_kafka, range(1_000, 3_000), "x" * 10_000)
        await until(client, lambda status: sum(status["lag"]["ads"].values()) > 1_500)
        os.kill(pid, signal.SIGSTOP)
        try:
            status = await until(client, lambda status: "position" in str(status["reasons"]))
            assert "position on ads has not moved" in status["reasons"]["watchdog"]
            assert await stalls(client, "position") == 1
            assert await worker.ended(DEADLINE_S) == 1
        finally:
            os.kill(pid, signal.SIGCONT)
    assert told(tmp_path, "position on ads")["stacks"]
