"""The policies for rejected records: drop counts and goes on, block stands still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from stream import topics
from stream.client import Client, Written
from stream.codec import encode_id
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, dead_letter_topic

DEADLINE_S = 60.0

WriteConfig = Callable[..., Path]


async def until(ask: Any, holds: Any) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not holds(answer := await ask()):
        assert time.monotonic() < deadline, f"still {answer}"
        await asyncio.sleep(0.02)
    return answer


async def dead_letters(kafka: Kafka, topic: str) -> int:
    name = dead_letter_topic(kafka.topic(topic))
    async with TopicReader(kafka, [name]) as reader:
        return sum((await reader.end_offsets())[name].values())


async def bad(kafka: Kafka, topic: str, ad_id: int) -> None:
    async with Publisher(kafka) as publisher:
        await publisher.send_all([(kafka.topic(topic), encode_id(ad_id), b"{", ())])


async def test_drop_counts_the_record_and_passes_it(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    path = write_config(tmp_path, kafka, '[deadletters]\nads = "drop"')
    worker = WorkerProcess(path, tmp_path / "worker.log")
    try:
        async with WorkerClient(await worker.start()) as http, Client(kafka) as client:
            await worker.wait_ready(http)
            await bad(kafka, ADS, 1)
            await client.upsert_and_wait(1)
            page = await http.text("/metrics")
    finally:
        await worker.stop()
    counted = 'headwater_records_rejected_total{reason="undecodable",topic="ads"} 1.0'
    assert counted in page
    assert await dead_letters(kafka, ADS) == 0


async def test_block_stands_still_until_an_operator_decides(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    """What came before is applied, nothing behind is, and another policy goes on from there."""
    await topics.create_missing(kafka)
    path = write_config(tmp_path, kafka, '[deadletters]\nads_control = "block"')
    worker = WorkerProcess(path, tmp_path / "worker.log")
    try:
        async with WorkerClient(await worker.start()) as http, Client(kafka) as client:

            async def offset(written: Written) -> int:
                offsets = (await http.get("/v1/status"))["offsets"].get(ADS_CONTROL, {})
                return int(offsets.get(str(written.partition), 0))

            await worker.wait_ready(http)
            before = await client.deliver(1, bid=2.0)
            await bad(kafka, ADS_CONTROL, 1)
            behind = await client.deliver(1, bid=3.0)

            async def status() -> Any:
                return await http.get("/v1/status")

            blocked = await until(status, lambda answer: not answer["ready"])
            reason = blocked["reasons"][ADS_CONTROL]
            assert f"partition {before.partition} offset {before.offset + 1}" in reason
            assert "undecodable" in reason
            assert "deadletters" in reason
            assert await offset(before) == before.offset + 1
            assert await dead_letters(kafka, ADS_CONTROL) == 0

            assert await worker.stop() == 0
            write_config(tmp_path, kafka, '[deadletters]\nads_control = "dlq"')
            http.move(await worker.start())
            await worker.wait_ready(http)
            assert await offset(behind) == behind.offset + 1
            assert await dead_letters(kafka, ADS_CONTROL) == 1
    finally:
        await worker.stop()
