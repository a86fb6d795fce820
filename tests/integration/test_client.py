"""The client: what it writes is where workers look for it, and it can wait until they have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from stream import topics
from stream.client import Client, NoAnswer, NotApplied
from stream.codec import decode_ad, decode_control, decode_event, encode_id
from stream.formats import FORMATS
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import MAX_TIME_MS, Rule, ScoreRequest, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

pytestmark = pytest.mark.asyncio(loop_scope="module")

in_every_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


class Running:
    """A ready worker and its cluster."""

    def __init__(self, kafka: Kafka, http: WorkerClient) -> None:
        self.kafka = kafka
        self.http = http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(
    kafka_bootstrap: str,
    tmp_path_factory: pytest.TempPathFactory,
    write_config: Callable[..., Path],
) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("worker")
    kafka = Kafka(kafka_bootstrap, f"t{uuid4().hex[:8]}-")
    path = write_config(folder, kafka, "[scoring]\nmax_wait_ms = 500")
    process = WorkerProcess(path, folder / "worker.log")
    try:
        async with WorkerClient(await process.start()) as http:
            await process.wait_ready(http)
            yield Running(kafka, http)
    finally:
        await process.stop()


def request(**more: Any) -> ScoreRequest:
    return ScoreRequest(request_id=uuid4().hex, user_id=1, **more)


async def read_all(kafka: Kafka, topic: str, count: int) -> list[Any]:
    found: list[Any] = []
    async with TopicReader(kafka, [kafka.topic(topic)]) as reader, asyncio.timeout(30):
        while len(found) < count:
            found += await reader.read(100)
    return found


@in_every_format
async def test_an_upsert_that_was_waited_for_is_in_the_next_answer(worker: Running, form) -> None:
    ad_id = uuid4().int >> 66
    async with Client(worker.kafka, form) as client:
        for value in ("tea", "coffee", "milk"):
            written = await client.upsert_and_wait(
                ad_id, features={"product": [value], "type": {"drink": 0.5}}
            )
            filters = {"product": Rule(allow=(value,))}
            response = await client.score(request(candidates=(ad_id,), filters=filters))
            assert [ad.ad_id for ad in response.ads] == [ad_id]
            assert response.offsets[ADS][written.partition] > written.offset
        await client.wait((await client.deliver(ad_id, status="paused")).min_offsets)
        assert not (await client.score(request(candidates=(ad_id,)))).ads
        await client.wait((await client.deliver(ad_id)).min_offsets)
        assert (await client.score(request(candidates=(ad_id,)))).ads
        await client.wait((await client.delete(ad_id)).min_offsets)
        assert not (await client.score(request(candidates=(ad_id,)))).ads
    assert not (await worker.http.get(f"/v1/ads/{ad_id}"))["present"]


async def test_a_request_with_min_offsets_sees_what_was_written_before_it(
    worker: Running,
) -> None:
    async with Client(worker.kafka) as client:
        for number in range(20):
            written = await client.upsert(10**9 + number, campaign="own")
            asked = request(candidates=(10**9 + number,), min_offsets=written.min_offsets)
            assert len((await client.score(asked)).ads) == 1


async def test_an_event_that_was_waited_for_is_in_the_applied_offsets(worker: Running) -> None:
    async with Client(worker.kafka) as client:
        event = UserEvent(uuid4().hex, None, "buy", 1_000, features={"product": ("tea",)})
        written = await client.record(1, event)
        response = await client.score(request(min_offsets=written.min_offsets))
        assert response.error is None
        assert response.offsets[USER_EVENTS][written.partition] > written.offset


async def test_offsets_that_do_not_come_are_a_clear_failure(worker: Running) -> None:
    async with Client(worker.kafka) as client:
        never = {ADS: {0: 10**9}}
        response = await client.score(request(min_offsets=never, deadline_ms=200))
        assert response.error is not None
        assert response.error.code == "stale"
        assert "ads partition 0 is applied up to offset" in response.error.message
        with pytest.raises(NotApplied, match="stale: ads partition 0"):
            await client.wait(never, timeout_s=1.0)
        with pytest.raises(NotApplied, match="invalid_field: min_offsets"):
            await client.wait({ADS: {99: 1}}, timeout_s=30.0)


async def test_a_wait_without_a_deadline_ends_at_the_workers_own(worker: Running) -> None:
    async with Client(worker.kafka) as client:
        response = await client.score(request(min_offsets={ADS: {0: 10**9}}))
        assert response.error is not None
        assert response.error.code == "stale"


async def test_stale_over_http_is_a_gateway_timeout(worker: Running) -> None:
    body = {"request_id": "r", "user_id": "1", "min_offsets": {"ads": {"0": 10**9}}}
    answer = await worker.http.post("/v1/score", {**body, "deadline_ms": 50})
    assert answer["error"]["code"] == "stale"
    answer = await worker.http.post("/v1/score", {**body, "min_offsets": {}})
    assert answer["error"] is None


@pytest.mark.parametrize("max_staleness_ms", [100, 500])
async def test_a_state_that_is_fresh_enough_answers(worker: Running, max_staleness_ms: int) -> None:
    """The broker is silent for a tenth of a second when there is nothing: that is not stale."""
    async with Client(worker.kafka) as client:
        for _ in range(10):
            response = await client.score(request(max_staleness_ms=max_staleness_ms))
            assert response.error is None


async def test_versions_only_rise_and_keys_lie_where_kafka_puts_them(kafka: Kafka) -> None:
    await topics.create_missing(kafka)
    async with Client(kafka) as client:
        ads = [await client.upsert(number % 7) for number in range(50)]
        states = [await client.deliver(number, bid=0.5) for number in range(5)]
        gone = await client.delete(3)
        event = UserEvent("e", 3, "buy", 1_000)
        seen = await client.record(8, event)
    versions = [written.version for written in (*ads, *states, gone)]
    assert versions == sorted(set(versions))

    found = {(m.partition, m.offset): m for m in await read_all(kafka, ADS, 51)}
    for number, written in enumerate(ads):
        change = decode_ad(found[written.partition, written.offset])
        assert (change.ad_id, change.version) == (number % 7, written.version)
    deleted = decode_ad(found[gone.partition, gone.offset])
    assert (deleted.ad, deleted.version) == (None, gone.version)
    states_found = [decode_control(m) for m in await read_all(kafka, ADS_CONTROL, 5)]
    assert {change.delivery.bid for change in states_found} == {0.5}
    (record,) = await read_all(kafka, USER_EVENTS, 1)
    assert decode_event(record, MAX_TIME_MS).event == event
    assert (record.partition, record.offset) == (seen.partition, seen.offset)

    # Another client of Kafka puts the same key on the same partition.
    async with Publisher(kafka) as publisher:
        await publisher.send_all([(kafka.topic(ADS), encode_id(5), b"{}", ())])
    other = next(m for m in await read_all(kafka, ADS, 52) if m.value == b"{}")
    assert other.partition == ads[5].partition


async def test_without_a_worker_there_is_no_answer_and_nothing_is_applied(kafka: Kafka) -> None:
    await topics.create_missing(kafka)
    async with Client(kafka) as client:
        with pytest.raises(NoAnswer):
            await client.score(request(), timeout_s=0.3)
        with pytest.raises(NotApplied, match="no worker has answered"):
            await client.upsert_and_wait(1, timeout_s=0.3)
