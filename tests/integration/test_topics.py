"""Creating and checking topics on a real cluster."""

from dataclasses import replace

import pytest

from stream.errors import BrokerUnavailable, TopicRefused
from stream.settings import Kafka
from stream.topics import TopicSpec, check, create_missing, delete, topic_specs


async def test_created_topics_differ_in_nothing_and_are_not_created_twice(kafka: Kafka) -> None:
    created = await create_missing(kafka)

    assert set(created) == {spec.name for spec in topic_specs(kafka.prefix)}
    assert await check(kafka) == []
    assert await create_missing(kafka) == []


async def test_check_names_what_is_missing_and_what_differs(kafka: Kafka) -> None:
    there, missing = TopicSpec("", 2, {"cleanup.policy": "compact"}), TopicSpec("", 1, {})
    there, missing = replace(there, name=kafka.topic("there")), replace(missing, name="missing")
    await create_missing(kafka, [there])

    wanted = [replace(there, partitions=3, config={"cleanup.policy": "delete"}), missing]
    found = {(d.setting, d.expected, d.found) for d in await check(kafka, wanted)}

    assert found == {
        ("partitions", "3", "2"),
        ("cleanup.policy", "delete", "compact"),
        ("topic", "present", "missing"),
    }


async def test_more_size_and_retention_than_needed_is_no_difference_and_less_is(
    kafka: Kafka,
) -> None:
    generous = {"retention.ms": "-1", "max.message.bytes": "3000", "delete.retention.ms": "2000"}
    there = TopicSpec(kafka.topic("there"), 1, generous)
    await create_missing(kafka, [there])
    least = dict.fromkeys(generous, "2000")
    assert await check(kafka, [replace(there, config=least)]) == []

    (found,) = await check(kafka, [replace(there, config={**least, "delete.retention.ms": "2001"})])
    assert "delete.retention.ms is 2000, not at least 2001; set it" in str(found)


async def test_setting_that_kafka_refuses_is_reported_with_its_reason(kafka: Kafka) -> None:
    spec = TopicSpec(kafka.topic("bad"), 1, {"retention.ms": "soon"})

    with pytest.raises(TopicRefused, match=r"retention\.ms"):
        await create_missing(kafka, [spec])


async def test_absent_broker_is_reported_with_its_address() -> None:
    nobody = Kafka("127.0.0.1:1")

    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1") as caught:
        await check(nobody)
    assert caught.value.retriable


async def test_deleted_topics_are_gone_and_the_others_stay(kafka: Kafka) -> None:
    await create_missing(kafka)
    specs = topic_specs(kafka.prefix)
    assert await delete(kafka, specs[:2]) == sorted(spec.name for spec in specs[:2])
    assert {d.topic for d in await check(kafka)} == {spec.name for spec in specs[:2]}
    assert await delete(kafka, specs[:2]) == []
