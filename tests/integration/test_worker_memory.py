"""A worker with a memory budget waits for room instead of taking what it does not have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from gpuindex import Index, IndexSettings
from stream import topics
from stream.codec import encode_ad, encode_delivery, encode_id
from stream.publish import Publisher
from stream.records import Ad, Delivery
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL

DEADLINE_S = 60.0
SEAL_ADS = 100
EMPTY_BYTES = sum(Index(IndexSettings(0, 0, seal_ads=SEAL_ADS)).memory().values())

Json = dict[str, Any]


def limited(budget_bytes: int) -> str:
    return f"""
        [intake]
        batch_records = 50
        [index]
        seal_ads = {SEAL_ADS}
        compact_deltas = 1000
        memory_budget_bytes = {budget_bytes}
        """


async def send(kafka: Kafka, ad_ids: Iterable[int], version: int) -> None:
    ad = encode_ad(Ad(version, "acme", "spring", {"product": {"tea": 1.0}}))
    async with Publisher(kafka) as publisher:
        await publisher.send_all((kafka.topic(ADS), encode_id(n), ad, ()) for n in ad_ids)


async def until(ask: Any, holds: Any) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not holds(answer := await ask()):
        assert time.monotonic() < deadline, f"still {answer}"
        await asyncio.sleep(0.05)
    return answer


@pytest.mark.timeout(240)
async def test_intake_pauses_without_room_and_resumes_with_it(
    kafka: Kafka, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    """Old versions are folded away when the room is needed; new ads wait for a larger budget."""
    await topics.create_missing(kafka)
    log = tmp_path / "worker.log"
    budget = EMPTY_BYTES + 600_000
    worker = WorkerProcess(write_config(tmp_path, kafka, limited(budget)), log)
    try:
        async with WorkerClient(await worker.start()) as client:
            await worker.wait_ready(client)

            async def status() -> Json:
                return await client.get("/v1/status")

            async def paused() -> Json:
                return (await status())["paused"]

            async def ad(ad_id: int) -> Json:
                return await client.get(f"/v1/ads/{ad_id}")

            for version in range(1, 31):
                await send(kafka, range(500), version)
            await until(lambda: ad(499), lambda ad: ad["version"] == 30)
            await until(status, lambda now: sum(now["lag"][ADS].values()) == 0)
            assert b"intake_paused" in log.read_bytes()
            assert await paused() == {}

            await send(kafka, range(1_000, 9_000), 1)
            now = await until(status, lambda now: now["paused"])
            assert list(now["paused"]) == [ADS]
            assert str(budget) in now["paused"][ADS]
            assert now["ready"]
            assert sum(now["memory"].values()) <= budget
            assert sum(now["lag"][ADS].values()) > 0
            shown = 'headwater_intake_paused{topic="ads"} 1.0'
            await until(lambda: client.text("/metrics"), lambda page: shown in page)
            # What needs no room goes on.
            async with Publisher(kafka) as publisher:
                control = encode_delivery(Delivery(1, status="paused"))
                await publisher.send_all([(kafka.topic(ADS_CONTROL), b"7", control, ())])
            await until(lambda: ad(7), lambda ad: ad["reasons"] == ["paused"])
        assert await worker.stop() == 0

        write_config(tmp_path, kafka, limited(0))
        async with WorkerClient(await worker.start()) as client:
            await worker.wait_ready(client)
            assert sum((await client.get("/v1/status"))["ads"].values()) == 8_500
            assert 'headwater_intake_paused{topic="ads"} 0.0' in await client.text("/metrics")
    finally:
        await worker.stop()
