"""A worker's life: stopped, killed, started again, and refused."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from daemon.client import WorkerClient
from daemon.demo.arrival import Arrival
from daemon.demo.by_hand import same
from daemon.process import WorkerProcess
from gpuindex import Index, IndexSettings, snapshots
from stream import topics
from stream.broker import Broker
from stream.cluster import look
from stream.codec import encode_ad, encode_delivery, encode_event, encode_id
from stream.publish import Publisher
from stream.records import Ad, Delivery, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

ADS_IN_ALL = 50
LATE_AD = 1_000
DEADLINE_S = 30.0

Json = dict[str, Any]
WriteConfig = Callable[..., Path]


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


async def publish_late(kafka: Kafka) -> None:
    ad = encode_ad(Ad(1, "acme", "late", {}))
    async with Publisher(kafka) as publisher:
        await publisher.send_all([(kafka.topic(ADS), encode_id(LATE_AD), ad, ())])


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def answer(client: WorkerClient) -> Json:
    body = {"request_id": "r", "user_id": "1", "k": 100, "seed": 1, "now_ms": 5_000}
    return await client.post("/v1/score", body)


@pytest.mark.parametrize("end", ["stop", "kill", "kill after a snapshot"])
async def test_a_restarted_worker_gives_the_same_answer(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig, end: str
) -> None:
    """From its snapshot, from Kafka alone, or from a snapshot and what came after it."""
    await publish(kafka)
    snapshots = "[snapshot]\ninterval_s = 0.05" if end == "kill after a snapshot" else ""
    log = tmp_path / "worker.log"
    worker = WorkerProcess(write_config(tmp_path, kafka, snapshots), log)
    try:
        async with WorkerClient(await worker.start()) as client, Arrival(kafka, client) as arrival:
            await worker.wait_ready(client)
            if snapshots:
                await until(lambda: b'"snapshot_written"' in log.read_bytes())
            await publish_late(kafka)
            await arrival.wait()
            before = await answer(client)
            served = {int(ad["ad_id"]) for ad in before["ads"]}
            assert served == {n for n in range(ADS_IN_ALL) if n % 3 and n % 5} | {LATE_AD}
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
    assert (b'"snapshot_restored"' in log.read_bytes()) == (end != "kill")


async def test_a_new_worker_starts_from_the_snapshot_of_another(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(kafka)
    config = write_config(tmp_path, kafka)
    first = WorkerProcess(config, tmp_path / "first.log")
    second = WorkerProcess(config, tmp_path / "second.log")
    try:
        async with WorkerClient(await first.start()) as client:
            await first.wait_ready(client)
            before = await answer(client)
            assert await first.stop() == 0
            monkeypatch.setenv("HEADWATER_WORKER__ID", "other")
            client.move(await second.start())
            await second.wait_ready(client)
            after = await answer(client)
            assert same(before, after)
            assert after["offsets"] == before["offsets"]
            assert await second.stop() == 0
    finally:
        await first.stop()
        await second.stop()
    assert b'"snapshot_restored"' in (tmp_path / "second.log").read_bytes()
    (base,) = (tmp_path / "bases").iterdir()
    (own,) = (tmp_path / "other" / "snapshots").glob(f"*/{base.name}")
    assert own.samefile(base)


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


def test_a_device_that_is_not_there_is_exit_code_2_with_what_is_missing_and_what_to_do(
    tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything else is begun: no broker is needed to be told."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = write_config(tmp_path, Kafka("127.0.0.1:1"), '[index]\ndevice = "cuda"')
    done = serve("--config", str(config))
    assert done.returncode == 2
    assert 'index.device = "cuda": ' in done.stderr
    assert "driver" in done.stderr
    assert '"auto" or "cpu"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_snapshot_of_a_newer_version_is_exit_code_2(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FORMAT", snapshots.FORMAT + 1)
    folder = tmp_path / f"{kafka.prefix}worker" / "snapshots"
    snapshots.write(Index(IndexSettings(0, 0)), folder, {}, {})
    done = serve("--config", str(write_config(tmp_path, kafka)))
    assert done.returncode == 2
    assert str(folder) in done.stderr
    assert "start the version that wrote it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_checkpoint_is_exit_code_2(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    path = write_config(tmp_path, kafka, '[models]\nretriever = "nowhere"')
    done = serve("--config", str(path))
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_topic_that_differs_is_exit_code_2_with_the_difference(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    (ads, *_) = topics.topic_specs(kafka.prefix)
    await topics.create_missing(kafka, [topics.TopicSpec(ads.name, 3, ads.config)])
    done = serve("--config", str(write_config(tmp_path, kafka)))
    assert done.returncode == 2
    assert f"{ads.name}: partitions is 3, not 4" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_absent_broker_is_exit_code_1_with_its_address(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    kafka = Kafka("127.0.0.1:1", f"t{uuid4().hex[:8]}-")
    done = serve("--config", str(write_config(tmp_path, kafka)))
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


async def unready(client: WorkerClient, reason: str) -> Json:
    """Wait until the worker is not ready for this reason."""
    deadline = time.monotonic() + DEADLINE_S
    while reason not in str((status := await client.get("/v1/status"))["reasons"]):
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.02)
    assert not status["ready"]
    return status


async def test_a_worker_whose_broker_is_gone_says_so_and_stops_in_time_with_its_snapshot(
    kafka: Kafka, kafka_jars: Path, tmp_path: Path, write_config: WriteConfig
) -> None:
    """Kafka's clients would wait a minute for the broker, and an orchestrator would kill.

    Then, pointed at another cluster, the worker touches nothing there.
    """
    broker = Broker(tmp_path / "kafka", kafka_jars)
    try:
        own = Kafka(await asyncio.to_thread(broker.start), kafka.prefix)
        await publish(own)
        log = tmp_path / "worker.log"
        config = write_config(tmp_path, own, "[kafka]\nunreachable_s = 0.5")
        worker = WorkerProcess(config, log)
        try:
            async with WorkerClient(await worker.start()) as client:
                await worker.wait_ready(client)
                await asyncio.to_thread(broker.stop)
                await unready(client, "kafka_unreachable: no answer for ")
                (silence_s,) = re.findall(
                    r"^headwater_kafka_silence_seconds (.*)$",
                    await client.text("/metrics"),
                    re.MULTILINE,
                )
                assert float(silence_s) > 0.5
                assert await worker.stop() == 0
        finally:
            await worker.stop()
    finally:
        await asyncio.to_thread(broker.stop)
    assert b'"snapshot_written"' in log.read_bytes()
    done = serve("--config", str(config), "--bootstrap", kafka.bootstrap)
    assert done.returncode == 2
    assert "its state is of cluster " in done.stderr
    assert (await look(kafka, [ADS])).topics == {}
