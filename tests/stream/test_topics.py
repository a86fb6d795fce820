"""The table of topics is the contract's; differences tell an operator what to do."""

import socket

import pytest

from stream.errors import BrokerUnavailable
from stream.settings import Kafka
from stream.topics import (
    DEAD_LETTERED,
    Difference,
    check,
    create_missing,
    dead_letter_topic,
    topic_specs,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def test_the_topics_are_those_of_the_contract():
    table = {
        spec.name: (
            spec.partitions,
            spec.config["cleanup.policy"],
            int(spec.config.get("retention.ms", 0)),
        )
        for spec in topic_specs()
    }
    assert table == {
        "ads": (4, "compact", 0),
        "ads-control": (4, "compact", 0),
        "user-events": (8, "delete", 90 * DAY_MS),
        "user-histories": (8, "compact", 0),
        "score-requests": (8, "delete", HOUR_MS),
        "score-responses": (8, "delete", HOUR_MS),
        "impressions": (8, "delete", 30 * DAY_MS),
        "workers": (1, "compact", 0),
        "ads.dlq": (1, "delete", 30 * DAY_MS),
        "ads-control.dlq": (1, "delete", 30 * DAY_MS),
        "user-events.dlq": (1, "delete", 30 * DAY_MS),
        "score-requests.dlq": (1, "delete", 30 * DAY_MS),
    }


def test_deletes_of_ads_are_remembered_for_seven_days():
    retained = {
        spec.name: spec.config["delete.retention.ms"]
        for spec in topic_specs()
        if "delete.retention.ms" in spec.config
    }
    assert retained == {"ads": str(7 * DAY_MS), "ads-control": str(7 * DAY_MS)}


def test_messages_are_at_most_one_mebibyte_and_dead_letters_two():
    dead = {dead_letter_topic(name) for name in DEAD_LETTERED}
    for spec in topic_specs():
        assert int(spec.config["max.message.bytes"]) == (2 << 20 if spec.name in dead else 1 << 20)


def test_user_keyed_topics_have_one_count_whatever_it_is():
    counts = {
        spec.name: spec.partitions for spec in topic_specs(ad_partitions=2, user_partitions=3)
    }
    user_keyed = [
        *("user-events", "user-histories", "score-requests", "score-responses", "impressions"),
    ]
    assert {counts[name] for name in user_keyed} == {3}
    assert {counts[name] for name in ("ads", "ads-control")} == {2}


def test_every_name_takes_the_prefix_and_gives_it_back():
    kafka = Kafka("127.0.0.1:9092", prefix="shop-")
    assert [spec.name for spec in topic_specs("shop-")] == [
        kafka.topic(spec.name) for spec in topic_specs()
    ]
    assert kafka.topic("ads.dlq") == dead_letter_topic(kafka.topic("ads"))
    assert kafka.name(kafka.topic("ads")) == "ads"


@pytest.mark.parametrize(
    ("setting", "expected", "found", "remedy"),
    [
        ("partitions", "8", "6", "another prefix"),
        ("cleanup.policy", "compact", "delete", "set it on the topic"),
    ],
)
def test_a_difference_says_what_is_what_should_be_and_what_to_do(setting, expected, found, remedy):
    text = str(Difference("shop-ads", setting, expected, found))
    assert text.startswith(f"shop-ads: {setting} is {found}, not {expected}; ")
    assert remedy in text


def test_a_missing_topic_is_called_missing():
    text = str(Difference("shop-ads", "topic", "present", "missing"))
    assert text == "shop-ads: missing; create it with `headwater topics create`"


@pytest.mark.parametrize("call", [create_missing, check])
async def test_a_broker_that_is_not_there_is_a_retriable_error_with_its_address(call):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(BrokerUnavailable, match=address) as unavailable:
        await call(Kafka(address), timeout_s=5.0)
    assert unavailable.value.retriable


@pytest.mark.parametrize("call", [create_missing, check])
async def test_a_broker_that_never_answers_is_given_up_in_time(call):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=address):
            await call(Kafka(address), timeout_s=0.2)
