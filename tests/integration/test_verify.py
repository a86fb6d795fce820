"""`headwater verify` on a real worker: equal is called equal, and each difference by its name."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from stream import topics
from stream.codec import VERSION_HEADER, encode_ad, encode_delivery, encode_id
from stream.publish import Outgoing, Publisher
from stream.records import Ad, Delivery, Rule
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL

pytestmark = pytest.mark.asyncio

ADS_SENT = 60


def records(kafka: Kafka, changed: dict[int, bytes | None]) -> list[Outgoing]:
    """Upserts, updates, deletions and delivery states; `changed` says otherwise of some ads."""
    sent: list[Outgoing] = []

    def send(topic: str, ad_id: int, value: bytes | None, *headers: tuple[str, bytes]) -> None:
        sent.append((kafka.topic(topic), encode_id(ad_id), value, headers))

    for ad_id in range(ADS_SENT):
        ad = Ad(
            2,
            f"advertiser {ad_id % 3}",
            features={"product": {f"p{ad_id % 11}": 0.5, "any": 1.0}},
            targeting={"geo": Rule(allow=("de", "at"))} if ad_id % 4 == 0 else {},
        )
        send(ADS, ad_id, changed.get(ad_id, encode_ad(ad)))
        if ad_id % 7 == 0:
            send(ADS, ad_id, encode_ad(msgspec.structs.replace(ad, version=4, campaign="late")))
        if ad_id % 10 == 0:
            send(ADS, ad_id, None, (VERSION_HEADER, b"9"))
        if ad_id % 2 == 0:
            send(ADS_CONTROL, ad_id, encode_delivery(Delivery(1, pacing=0.5, bid=2.0)))
    return sent


async def verified(config: Path, kafka: Kafka, *urls: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings of the verb, told to read the topics of `kafka`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", "verify", *urls, "--json", "--wait", "0"),
        *("--config", str(config), "--prefix", kafka.prefix),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(output)


async def test_verify_names_the_ads_that_are_not_as_the_topics_say(
    kafka: Kafka, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    config = write_config(tmp_path, kafka)
    process = WorkerProcess(config, tmp_path / "worker.log")
    # Equal records at equal offsets, but for three ads: as if a worker had gone wrong with them.
    other = Kafka(kafka.bootstrap, f"{kafka.prefix}other-")
    state, later = (encode_ad(Ad(2, features={"product": {"else": 1.0}})) for _ in range(2))
    changed = {1: state, 2: later, 3: None}
    try:
        async with (
            WorkerClient(await process.start()) as client,
            Publisher(kafka) as publisher,
        ):
            await process.wait_ready(client)
            await topics.create_missing(other)
            await publisher.send_all(records(kafka, {}))
            await publisher.send_all(records(other, changed))
            # Behind the worker's offsets: what ad 2 was there can no longer be told for sure.
            update = encode_ad(Ad(3, features={"product": {"new": 1.0}}))
            await publisher.send_all([(other.topic(ADS), b"2", update, ())])
            async with asyncio.timeout(30):
                while (await client.get("/v1/ads/59"))["present"] is False:
                    await asyncio.sleep(0.05)

            code, (finding,) = await verified(config, kafka, client.url)
            assert (code, finding["differences"]) == (0, [])
            assert finding["ads"] == ADS_SENT - ADS_SENT // 10

            code, (finding,) = await verified(config, other, client.url)
            assert code == 1
            assert finding["differences"] == [
                {"ad_id": "1", "what": "state"},
                {"ad_id": "3", "what": "surplus"},
            ]
            assert finding["changed_since"] == 1

            bad = await client.get("/v1/digest?parts=256")
            assert bad["error"]["code"] == "invalid_field"
    finally:
        await process.stop()
