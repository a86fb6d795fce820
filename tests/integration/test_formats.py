"""Each topic has its own format for records that do not name theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from stream.codec import (
    decode_response,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_id,
    encode_request,
)
from stream.formats import MSGPACK, PROTOBUF, header_of
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import Ad, Delivery, ScoreRequest, UserEvent
from stream.settings import Kafka
from stream.topics import (
    ADS,
    ADS_CONTROL,
    DEAD_LETTERED,
    SCORE_REQUESTS,
    SCORE_RESPONSES,
    USER_EVENTS,
    dead_letter_topic,
)

DEADLINE_S = 60.0

FORMATS = """
[formats]
ads = "msgpack"
ads_control = "protobuf"
user_events = "protobuf"
score_requests = "msgpack"
"""


async def test_a_record_without_a_content_type_is_in_its_topics_format(
    kafka: Kafka, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    """The request waits for the others, so its answer says that all three were read."""
    worker = WorkerProcess(write_config(tmp_path, kafka, FORMATS), tmp_path / "worker.log")
    try:
        async with WorkerClient(await worker.start()) as http, Publisher(kafka) as publisher:
            await worker.wait_ready(http)
            wanted: dict[str, dict[int, int]] = {}
            for topic, value in (
                (ADS, encode_ad(Ad(7), MSGPACK)),
                (ADS_CONTROL, encode_delivery(Delivery(8, start_ms=5), PROTOBUF)),
                (USER_EVENTS, encode_event(UserEvent("e", None, "buy", 5), PROTOBUF)),
            ):
                written = await (await publisher.send(kafka.topic(topic), encode_id(17), value))
                wanted[topic] = {written.partition: written.offset + 1}
            asked = ScoreRequest(
                request_id="r", user_id=17, candidates=(17,), min_offsets=wanted, now_ms=5
            )
            value = encode_request(asked, MSGPACK)
            await publisher.send(kafka.topic(SCORE_REQUESTS), encode_id(17), value)
            topics = [SCORE_RESPONSES, *map(dead_letter_topic, DEAD_LETTERED)]
            async with TopicReader(kafka, map(kafka.topic, topics)) as reader:
                async with asyncio.timeout(DEADLINE_S):
                    while not (found := await reader.read(100)):
                        pass
    finally:
        await worker.stop()
    (answer,) = found
    assert answer.topic == kafka.topic(SCORE_RESPONSES)
    assert header_of(MSGPACK) in answer.headers
    response = decode_response(answer.value, MSGPACK)
    assert [ad.ad_id for ad in response.ads] == [17]
