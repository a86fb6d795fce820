"""What a worker does when Kafka is not the one that it left, told by a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete

from daemon.client import WorkerClient
from daemon.clock import wall_ms
from daemon.origin import Origin, Refusal, refuse_foreign, where_to_go_on
from daemon.process import WorkerProcess
from daemon.settings import ConfigurationError
from stream import topics
from stream.cluster import look
from stream.codec import encode_ad, encode_event, encode_id
from stream.errors import BrokerUnavailable
from stream.publish import Publisher
from stream.records import Ad, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, USER_EVENTS

WriteConfig = Callable[..., Path]

DEADLINE_S = 30.0


async def publish(kafka: Kafka, ad_ids: range) -> None:
    ads = [(kafka.topic(ADS), encode_id(n), encode_ad(Ad(1, "acme", "c", {})), ()) for n in ad_ids]
    events = [
        (kafka.topic(USER_EVENTS), encode_id(n), encode_event(UserEvent("e", None, "buy", 1)), ())
        for n in ad_ids
    ]
    async with Publisher(kafka) as publisher:
        await publisher.send_all(ads + events)


async def recreate(kafka: Kafka, *names: str) -> None:
    specs = [spec for spec in topics.topic_specs(kafka.prefix) if kafka.name(spec.name) in names]
    await topics.delete(kafka, specs)
    await topics.create_missing(kafka, specs)


async def test_a_topic_created_anew_has_another_id(kafka: Kafka) -> None:
    assert (await look(kafka, [ADS])).topics == {}
    await topics.create_missing(kafka)
    before = await Origin.find(kafka)
    assert {name: topic.partitions for name, topic in before.cluster.topics.items()} == {
        "ads": 4,
        "ads-control": 4,
        "user-events": 8,
        "score-requests": 8,
    }
    assert before.tombstones_ms == 7 * 86_400_000
    await publish(kafka, range(20))
    await recreate(kafka, ADS)
    after = await Origin.find(kafka)
    assert after.cluster.id == before.cluster.id
    changed = set(after.cluster.topics.items()) - set(before.cluster.topics.items())
    assert {name for name, _ in changed} == {ADS}
    assert sum(after.ends[ADS].values()) == 0
    assert sum(after.ends[USER_EVENTS].values()) == 20


async def test_a_folder_belongs_to_its_cluster_and_topics(kafka: Kafka, tmp_path: Path) -> None:
    await refuse_foreign(tmp_path, kafka)
    await topics.create_missing(kafka)
    (await Origin.find(kafka)).claim(tmp_path)
    await refuse_foreign(tmp_path, kafka)
    with pytest.raises(ConfigurationError, match=f"and not of other{kafka.prefix}ads,"):
        await refuse_foreign(tmp_path, replace(kafka, prefix="other" + kafka.prefix))


async def test_records_that_are_gone_are_an_answer_and_not_an_end(kafka: Kafka) -> None:
    """What retention does: the oldest records of a partition are deleted."""
    await topics.create_missing(kafka)
    await publish(kafka, range(200))
    before = await Origin.find(kafka)
    await expire(kafka, USER_EVENTS, 5)
    origin = await Origin.find(kafka)

    def refused(ads: dict[int, int]) -> Refusal | None:
        found = origin.refusal(origin.identity(), {ADS: ads}, wall_ms())
        return found[0] if found else None

    assert refused({0: before.ends[ADS][0]}) is None
    assert refused({0: before.ends[ADS][0] + 1}) is Refusal.OFFSETS
    starts, ends = origin.starts[USER_EVENTS], origin.ends[USER_EVENTS]
    bounds = {number: (starts[number], ends[number]) for number in starts}
    assert where_to_go_on({0: 4, 1: 3}, bounds) == {0: 5, 1: 3}
    assert where_to_go_on({0: 7, 1: ends[1] + 1}, bounds) == {0: 7, 1: 0}


async def expire(kafka: Kafka, name: str, before_offset: int) -> None:
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        gone = {TopicPartition(kafka.topic(name), 0): RecordsToDelete(before_offset)}
        await admin.delete_records(gone)
    finally:
        await admin.close()


async def test_a_cluster_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await look(Kafka("127.0.0.1:1"), [ADS])


async def test_a_worker_begins_anew_with_topics_created_anew_and_ends_with_added_partitions(
    kafka: Kafka, tmp_path: Path, write_config: WriteConfig
) -> None:
    await topics.create_missing(kafka)
    await publish(kafka, range(30))
    log = tmp_path / "worker.log"
    worker = WorkerProcess(write_config(tmp_path, kafka), log)
    try:
        async with WorkerClient(await worker.start()) as client:
            await worker.wait_ready(client)
            assert await worker.stop() == 0
            await recreate(kafka, ADS, USER_EVENTS)
            await publish(kafka, range(100, 110))

            client.move(await worker.start())
            await worker.wait_ready(client)
            status = await client.get("/v1/status")
            assert sum(status["ads"].values()) == 10
            assert sum(status["offsets"][USER_EVENTS].values()) == 10
            page = await client.text("/metrics")
            assert "headwater_history_users 10.0" in page
            assert 'headwater_state_refused_total{reason="topics"} 2.0' in page

            await add_partition(kafka, USER_EVENTS)
            assert await worker.ended(DEADLINE_S) == 2
    finally:
        await worker.stop()
    text = log.read_text()
    assert '"why": "topics"' in text
    assert "partitions is 9, not 8" in text


async def add_partition(kafka: Kafka, name: str) -> None:
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        await admin.create_partitions({kafka.topic(name): NewPartitions(9)})
    finally:
        await admin.close()
