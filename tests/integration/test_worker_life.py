"""A worker's life: stopped, killed, started again, and refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from daemon.client import WorkerClient
from daemon.demo.by_hand import same
from daemon.process import WorkerProcess
from stream import topics
from stream.codec import encode_ad, encode_delivery, encode_event, encode_id
from stream.publish import Publisher
from stream.records import Ad, Delivery, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

ADS_IN_ALL = 50

Json = dict[str, Any]


def config(folder: Path, kafka: Kafka, more: str = "") -> Path:
    path = folder / "headwater.toml"
    path.write_text(
        f"""
        [kafka]
        bootstrap = "{kafka.bootstrap}"
        prefix = "{kafka.prefix}"
        [worker]
        state_dir = "{folder}"
        port = 0
        log_format = "json"
        {more}
        """
    )
    return path


async def publish(kafka: Kafka) -> None:
    """Ads, every third of them paused, every fifth deleted; and one event of a user."""
    await topics.create_missing(kafka)
    ads, control, events = (kafka.topic(topic) for topic in (ADS, ADS_CONTROL, USER_EVENTS))
    keys = [encode_id(number) for number in range(ADS_IN_ALL)]
    async with Publisher(kafka) as publisher:
        await publisher.send_all(
            [
                (ads, key, encode_ad(Ad(1, "acme", "c", {"f": {key.decode(): 1.0}})), ())
                for key in keys
            ]
            + [
                (control, key, encode_delivery(Delivery(1, status="paused")), ())
                for key in keys[::3]
            ]
            + [(ads, key, None, ()) for key in keys[::5]]
            + [(events, b"1", encode_event(UserEvent("e", None, "buy", 1_000)), ())]
        )


async def answer(client: WorkerClient) -> Json:
    body = {"request_id": "r", "user_id": "1", "k": 100, "seed": 1, "now_ms": 5_000}
    return await client.post("/v1/score", body)


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_restarted_worker_gives_the_same_answer(
    kafka: Kafka, tmp_path: Path, end: str
) -> None:
    """After SIGTERM from its snapshot, after SIGKILL from Kafka."""
    await publish(kafka)
    worker = WorkerProcess(config(tmp_path, kafka), tmp_path / "worker.log")
    try:
        async with WorkerClient(await worker.start()) as client:
            await worker.wait_ready(client)
            before = await answer(client)
            served = {int(ad["ad_id"]) for ad in before["ads"]}
            assert served == {n for n in range(ADS_IN_ALL) if n % 3 and n % 5}
            if end == "stop":
                assert await worker.stop() == 0
            else:
                await worker.kill()
            client.move(await worker.start())
            await worker.wait_ready(client)
            after = await answer(client)
            assert same(before, after)
            assert after["offsets"] == before["offsets"]
    finally:
        await worker.stop()
    restored = b'"snapshot_restored"' in (tmp_path / "worker.log").read_bytes()
    assert restored == (end == "stop")


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_bad_configuration_is_exit_code_2_with_the_key_and_what_is_allowed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[worker]\nport = 70000\n")
    done = serve("--config", str(path))
    assert done.returncode == 2
    assert "worker.port" in done.stderr
    assert "70000" in done.stderr
    assert "65535" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_checkpoint_is_exit_code_2(kafka: Kafka, tmp_path: Path) -> None:
    path = config(tmp_path, kafka, more='[models]\nretriever = "nowhere"')
    done = serve("--config", str(path))
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_topic_that_differs_is_exit_code_2_with_the_difference(
    kafka: Kafka, tmp_path: Path
) -> None:
    (ads, *_) = topics.topic_specs(kafka.prefix)
    await topics.create_missing(kafka, [topics.TopicSpec(ads.name, 3, ads.config)])
    done = serve("--config", str(config(tmp_path, kafka)))
    assert done.returncode == 2
    assert f"{ads.name}: partitions is 3, not 4" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_absent_broker_is_exit_code_1_with_its_address(tmp_path: Path) -> None:
    kafka = Kafka("127.0.0.1:1", f"t{uuid4().hex[:8]}-")
    done = serve("--config", str(config(tmp_path, kafka)))
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
