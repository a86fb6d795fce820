"""A worker on a real Kafka: what goes in by a topic comes out by HTTP and by `score-responses`."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from monitoring.panels import ROWS
from stream.codec import (
    decode_response,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_id,
    encode_request,
)
from stream.errors import Reason
from stream.formats import FORMATS, Format, header_of
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import Ad, Delivery, ScoreRequest, UserEvent
from stream.settings import Kafka
from stream.topics import (
    ADS,
    ADS_CONTROL,
    SCORE_REQUESTS,
    SCORE_RESPONSES,
    USER_EVENTS,
    dead_letter_topic,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_S = 30.0
K = 1_000

Json = dict[str, Any]


class Running:
    """A worker, a client of it, and a producer for its topics."""

    def __init__(
        self, process: WorkerProcess, client: WorkerClient, publisher: Publisher, kafka: Kafka
    ) -> None:
        self.process = process
        self.client = client
        self.publisher = publisher
        self.kafka = kafka

    async def send(self, topic: str, key: bytes | None, value: bytes | None, **more: Any) -> None:
        headers = more.get("headers", ())
        await self.publisher.send_all([(self.kafka.topic(topic), key, value, headers)])

    async def upsert(self, ad_id: int, version: int, **features: str) -> None:
        ad = Ad(
            version, "acme", "spring", {field: {value: 1.0} for field, value in features.items()}
        )
        await self.send(ADS, encode_id(ad_id), encode_ad(ad))

    async def deliver(self, ad_id: int, delivery: Delivery) -> None:
        await self.send(ADS_CONTROL, encode_id(ad_id), encode_delivery(delivery))

    async def ad(self, ad_id: int) -> Json:
        return await self.client.get(f"/v1/ads/{ad_id}")

    async def ad_becomes(self, ad_id: int, **expected: Any) -> Json:
        return await until(lambda: self.ad(ad_id), lambda ad: expected.items() <= ad.items())

    async def score(self, **more: Any) -> Json:
        return await self.client.post("/v1/score", request(**more))

    async def score_by_topic(self, asked: Json) -> Json:
        topic = self.kafka.topic(SCORE_RESPONSES)
        async with TopicReader(self.kafka, [topic]) as reader:
            await self.send(SCORE_REQUESTS, asked["user_id"].encode(), json.dumps(asked).encode())

            async def response() -> list[Json]:
                bodies = [json.loads(record.value) for record in await reader.read(100)]
                return [body for body in bodies if body["request_id"] == asked["request_id"]]

            (answer,) = await until(response, bool)
        return answer

    async def answers(self, **more: Any) -> set[int]:
        return {int(ad["ad_id"]) for ad in (await self.score(**more))["ads"]}

    async def rejected(self, topic: str) -> float:
        name = "headwater_records_rejected_total"
        return sum([await self.client.metric(name, topic=topic, reason=why) for why in Reason])

    async def rejected_becomes(self, topic: str, count: float) -> None:
        await until(lambda: self.rejected(topic), lambda now: now == count)

    async def dead_letters(self, topic: str, count: int, header: tuple[str, bytes]) -> list[Any]:
        """Those that carry `header`."""
        dlq = dead_letter_topic(self.kafka.topic(topic))
        found: list[Any] = []
        async with TopicReader(self.kafka, [dlq]) as reader:
            deadline = time.monotonic() + DEADLINE_S
            while len(found) < count:
                assert time.monotonic() < deadline, f"{len(found)} of {count} dead letters"
                found += [at for at in await reader.read(100) if header in at.headers]
        return found


def request(**more: Any) -> Json:
    return {"request_id": uuid4().hex, "user_id": "1", "k": K, **more}


async def until(ask: Any, holds: Any) -> Any:
    """Ask until the answer is as it must be."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds(answer := await ask()):
        assert time.monotonic() < deadline, f"still {answer}"
        await asyncio.sleep(0.01)
    return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(
    kafka_bootstrap: str,
    tmp_path_factory: pytest.TempPathFactory,
    write_config: Callable[..., Path],
) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("worker")
    kafka = Kafka(kafka_bootstrap, f"t{uuid4().hex[:8]}-")
    process = WorkerProcess(write_config(folder, kafka), folder / "worker.log")
    try:
        async with WorkerClient(await process.start()) as client, Publisher(kafka) as publisher:
            await process.wait_ready(client)
            yield Running(process, client, publisher, kafka)
    finally:
        await process.stop()


async def test_a_produced_ad_is_in_the_next_answers(worker: Running) -> None:
    await worker.upsert(101, 1, product="tea")
    await worker.ad_becomes(101, present=True, eligible=True, version=1)
    assert 101 in await worker.answers()


async def test_an_update_is_seen_and_the_old_version_is_not(worker: Running) -> None:
    await worker.upsert(102, 5, product="tea")
    await worker.ad_becomes(102, version=5)
    await worker.upsert(102, 6, product="coffee")
    await worker.ad_becomes(102, version=6)
    tea, coffee = ({"product": {"allow": [value]}} for value in ("tea", "coffee"))
    assert 102 not in await worker.answers(filters=tea)
    assert 102 in await worker.answers(filters=coffee)


async def test_an_old_version_is_skipped_and_counted(worker: Running) -> None:
    before = await worker.client.metric(
        "headwater_records_skipped_total", reason="version", topic="ads"
    )
    await worker.upsert(103, 9, product="tea")
    await worker.upsert(103, 8, product="coffee")

    async def skipped() -> float:
        return await worker.client.metric(
            "headwater_records_skipped_total", reason="version", topic="ads"
        )

    await until(skipped, lambda now: now == before + 1)
    assert (await worker.ad(103))["version"] == 9


async def test_a_paused_ad_is_gone_with_its_reason_and_comes_back(worker: Running) -> None:
    await worker.upsert(105, 1, product="tea")
    await worker.ad_becomes(105, eligible=True)
    await worker.deliver(105, Delivery(1, status="paused"))
    await worker.ad_becomes(105, present=True, eligible=False, reasons=["paused"])
    assert 105 not in await worker.answers()
    await worker.deliver(105, Delivery(2))
    await worker.ad_becomes(105, eligible=True)
    assert 105 in await worker.answers()


async def test_an_equal_version_changes_no_delivery_state_and_a_null_one_restores_the_defaults(
    worker: Running,
) -> None:
    async def skipped() -> float:
        name = "headwater_records_skipped_total"
        return await worker.client.metric(name, topic=ADS_CONTROL, reason="version")

    before = await skipped()
    await worker.upsert(104, 1, product="tea")
    await worker.deliver(104, Delivery(5, status="paused"))
    await worker.deliver(104, Delivery(5))
    await until(skipped, lambda now: now == before + 1)
    await worker.ad_becomes(104, present=True, eligible=False, reasons=["paused"])
    await worker.send(ADS_CONTROL, b"104", None)
    await worker.ad_becomes(104, eligible=True)


async def test_a_flight_is_judged_at_the_requests_own_now(worker: Running) -> None:
    await worker.deliver(106, Delivery(1, start_ms=2_000, end_ms=3_000))
    await worker.upsert(106, 1, product="tea")
    await worker.ad_becomes(106, present=True, eligible=False, reasons=["ended"])
    assert 106 in await worker.answers(now_ms=2_000)
    assert 106 not in await worker.answers(now_ms=3_000)


async def test_a_deleted_ad_is_never_seen_again(worker: Running) -> None:
    await worker.upsert(107, 5, product="tea")
    await worker.ad_becomes(107, present=True)
    await worker.send(ADS, b"107", None, headers=[("headwater-version", b"7")])
    await worker.ad_becomes(107, present=False)
    await worker.upsert(107, 6, product="late")
    await worker.upsert(108, 1, product="tea")
    await worker.ad_becomes(108, present=True)
    assert (await worker.ad(107))["present"] is False
    assert 107 not in await worker.answers()


async def test_targeting_and_named_candidates_restrict_the_answer(worker: Running) -> None:
    ad = {"version": 1, "features": {}, "targeting": {"age": {"allow": ["19-24"]}}}
    await worker.send(ADS, b"109", json.dumps(ad).encode())
    await worker.upsert(110, 1, product="tea")
    await worker.ad_becomes(110, present=True)
    await worker.ad_becomes(109, present=True)
    young = {"age": ["19-24"]}
    assert await worker.answers(candidates=["109", "110"], user=young) == {109, 110}
    assert await worker.answers(candidates=["109", "110"], user={"age": ["65+"]}) == {110}
    answer = await worker.score(candidates=["110", "999999"])
    assert "candidates_missing" in answer["flags"]


async def test_the_agent_and_http_give_the_same_answer(worker: Running) -> None:
    await worker.upsert(111, 1, product="tea")
    await worker.ad_becomes(111, present=True)
    asked = request(seed=3, now_ms=1_000_000)
    by_topic = await worker.score_by_topic(asked)
    by_http = await worker.client.post("/v1/score", asked)
    assert by_topic == by_http
    assert by_http["flags"] == ["retriever_none", "ranker_none"]
    assert set(by_http["offsets"]) == {ADS, ADS_CONTROL, USER_EVENTS}


async def test_an_unknown_user_gets_an_answer(worker: Running) -> None:
    answer = await worker.score(user_id=str(2**63 - 1))
    assert answer["error"] is None
    assert answer["ads"]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
async def test_http_answers_in_the_format_of_the_request(worker: Running, form: Format) -> None:
    await worker.upsert(112, 1, product="tea")
    await worker.ad_becomes(112, present=True)
    asked = ScoreRequest(request_id="r", user_id=1, candidates=(112,))
    async with (
        aiohttp.ClientSession(headers={"content-type": form.content_type}) as session,
        session.post(worker.client.url + "/v1/score", data=encode_request(asked, form)) as answer,
    ):
        assert answer.content_type == form.content_type
        response = decode_response(await answer.read(), form)
    assert [ad.ad_id for ad in response.ads] == [112]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
async def test_records_of_every_format_are_applied_side_by_side(
    worker: Running, form: Format
) -> None:
    number = 140 + list(FORMATS.values()).index(form)
    ad = Ad(3, features={"product": {"tea": 1.0}})
    key, headers = encode_id(number), [header_of(form)]
    await worker.send(ADS, key, encode_ad(ad, form), headers=headers)
    state = encode_delivery(Delivery(1, status="paused"), form)
    await worker.send(ADS_CONTROL, key, state, headers=headers)
    await worker.ad_becomes(number, version=3, eligible=False, reasons=["paused"])


async def test_an_unknown_content_type_is_a_dead_letter(worker: Running) -> None:
    header = ("content-type", b"text/csv")
    await worker.send(SCORE_REQUESTS, b"1", b"r,1", headers=[header])
    await worker.send(ADS_CONTROL, b"150", b"1", headers=[header])
    for topic in (SCORE_REQUESTS, ADS_CONTROL):
        (letter,) = await worker.dead_letters(topic, 1, header)
        assert dict(letter.headers)["__streams.errors.exception"] == b"unknown_format"


async def test_an_advertiser_is_limited_and_the_answer_still_full(worker: Running) -> None:
    for ad_id in range(120, 126):
        ad = Ad(1, "big" if ad_id < 124 else "small", "spring", {"kind": {"limited": 1.0}})
        await worker.send(ADS, encode_id(ad_id), encode_ad(ad))
    await worker.ad_becomes(125, present=True)
    only = {"kind": {"allow": ["limited"]}}
    assert await worker.answers(filters=only) == set(range(120, 126))
    assert await worker.answers(filters=only, max_per_advertiser=1) == {120, 124}
    assert await worker.answers(filters=only, max_per_advertiser=1, k=2) == {120, 124}


async def test_an_ad_that_reached_its_cap_is_not_answered(worker: Running) -> None:
    """By the caller's count, and by the user's own history within the window."""
    await worker.upsert(127, 1, product="tea")
    await worker.ad_becomes(127, present=True)
    named = {"candidates": ["127"], "user_id": "88"}
    cap: Json = {"most": 2, "window_ms": 1_000, "actions": ["view"]}
    assert await worker.answers(**named, frequency_cap={**cap, "seen": {"127": 1}}) == {127}
    assert await worker.answers(**named, frequency_cap={**cap, "seen": {"127": 2}}) == set()

    for number, time_ms in enumerate((5_000, 5_500)):
        event = UserEvent(f"view-{number}", 127, "view", time_ms)
        await worker.send(USER_EVENTS, b"88", encode_event(event))

    async def answered() -> set[int]:
        return await worker.answers(**named, frequency_cap=cap, now_ms=5_600)

    await until(answered, lambda answer: answer == set())
    assert await worker.answers(**named, frequency_cap=cap, now_ms=6_200) == {127}
    explained = await worker.client.post(
        "/v1/explain", request(**named, ad_id="127", frequency_cap=cap, now_ms=5_600)
    )
    assert explained["reasons"] == ["frequency_cap"]


async def test_explain_says_what_the_answer_does(worker: Running) -> None:
    await worker.upsert(130, 4, product="tea")
    await worker.deliver(130, Delivery(1, bid=2.0))
    asked = request(seed=1, now_ms=1_000_000, filters={"product": {"allow": ["tea"]}})
    explained = await until(
        lambda: worker.client.post("/v1/explain", {**asked, "ad_id": "130"}),
        lambda explained: explained["bias"],
    )
    answer = await worker.client.post("/v1/score", asked)
    assert (explained["present"], explained["eligible"], explained["version"]) == (True, True, 4)
    place = explained["rank"] - 1
    assert answer["ads"][place]["ad_id"] == "130"
    assert answer["ads"][place]["score"] == explained["score"]
    parts = [feature["points"] for feature in explained["features"]]
    assert sum(parts) + explained["dense"] + explained["bias"] == explained["points"] != 0
    assert explained["points"] * explained["unit"] == explained["score"]


async def test_explain_names_the_rule_that_says_no(worker: Running) -> None:
    await worker.upsert(131, 1, product="tea")
    await worker.deliver(131, Delivery(1, status="paused"))
    await worker.ad_becomes(131, present=True, eligible=False)
    asked = request(ad_id="131", filters={"product": {"deny": ["tea"]}})
    explained = await worker.client.post("/v1/explain", asked)
    assert explained["reasons"] == ["paused", "filters.product"]
    absent = await worker.client.post("/v1/explain", request(ad_id="999999"))
    assert (absent["present"], absent["reasons"], absent["score"]) == (False, ["absent"], None)
    assert (await worker.client.post("/v1/explain", request()))["error"]["code"] == "invalid_field"


async def test_the_command_line_explains_as_http_does(worker: Running, tmp_path: Path) -> None:
    await worker.upsert(132, 1, product="tea")
    await worker.ad_becomes(132, present=True)
    asked = request(now_ms=5_000, filters={"product": {"allow": ["coffee"]}})
    path = tmp_path / "request.json"
    path.write_text(json.dumps(asked))
    command = ("explain", "132", "--request", str(path), "--url", worker.client.url, "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", *command, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    by_http = await worker.client.post("/v1/explain", {**asked, "ad_id": "132"})
    assert json.loads(printed) == by_http
    assert by_http["reasons"] == ["filters.product"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"request_id": "r"}',
        b'{"request_id": "r", "user_id": 7}',
        b'{"request_id": "r", "user_id": "7", "k": 0}',
        b'{"request_id": "r", "user_id": "7", "k": NaN}',
        b'{"request_id": "r", "user_id": "7", "mode": "dense"}',
    ],
)
async def test_a_malformed_request_is_answered_with_the_reason(
    worker: Running, body: bytes
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(worker.client.url + "/v1/score", data=body) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json())["error"]["message"]


async def test_a_malformed_request_that_names_itself_is_answered_on_its_topic(
    worker: Running,
) -> None:
    answer = await worker.score_by_topic(request(k=0))
    assert answer["error"]["code"] == "invalid_field"
    assert "k" in answer["error"]["message"]
    assert answer["ads"] == []


async def test_bad_records_are_dead_lettered_whole_and_stop_nothing(worker: Running) -> None:
    """Original bytes, key and headers, and a reason; the good record behind them is applied."""
    tomorrow_ms = int(time.time() * 1000) + 2 * 86_400_000
    late = UserEvent("e", None, "buy", tomorrow_ms)
    bad: dict[str, list[tuple[bytes | None, bytes | None, str]]] = {
        ADS: [
            (b"201", b"{not json", "undecodable"),
            (b"201", b'{"version": "one"}', "invalid_field"),
            (b"201", b'{"version": 1, "features": {"f": {"v": NaN}}}', "undecodable"),
            (b"-1", b'{"version": 1}', "bad_key"),
            (
                b"201",
                json.dumps(
                    {"version": 1, "features": {"f": [str(n) for n in range(4_097)]}}
                ).encode(),
                "too_many_features",
            ),
        ],
        ADS_CONTROL: [(b"201", b'{"version": 1, "status": "asleep"}', "invalid_field")],
        USER_EVENTS: [
            # Kafka itself refuses records without a key on the compacted topics.
            (None, b"{}", "null_key"),
            (b"1", None, "null_value"),
            (b"1", b"\xff", "undecodable"),
            (b"1", encode_event(late), "future_event"),
        ],
        SCORE_REQUESTS: [(b"1", b"{not json", "undecodable")],
    }
    trace = ("trace", b"\x00\xff")
    for topic, records in bad.items():
        counted = await worker.rejected(topic)
        for key, value, _ in records:
            await worker.send(topic, key, value, headers=[trace])
        letters = await worker.dead_letters(topic, len(records), trace)
        wanted = {(key, value, reason.encode()) for key, value, reason in records}
        reasons = [dict(letter.headers)["__streams.errors.exception"] for letter in letters]
        found = {(at.key, at.value, why) for at, why in zip(letters, reasons, strict=True)}
        assert found == wanted
        await worker.rejected_becomes(topic, counted + len(records))
    await worker.upsert(201, 1, product="good")
    await worker.ad_becomes(201, present=True)


async def test_unknown_keys_are_ignored_and_counted(worker: Running) -> None:
    await worker.send(ADS, b"202", b'{"version": 1, "colour": "red"}')
    await worker.ad_becomes(202, present=True)
    page = await worker.client.text("/metrics")
    assert 'headwater_unknown_keys_total{topic="ads"}' in page


async def test_events_of_unknown_ads_and_users_are_applied(worker: Running) -> None:
    users = await worker.client.metric("headwater_history_users")
    rejected = await worker.rejected(USER_EVENTS)
    event = UserEvent("first", 424_242, "buy", 1_000, 2.5, {"product": ("tea",)})
    await worker.send(USER_EVENTS, b"77", encode_event(event))

    async def known() -> float:
        return await worker.client.metric("headwater_history_users")

    await until(known, lambda now: now == users + 1)
    assert await worker.rejected(USER_EVENTS) == rejected


async def test_an_extreme_value_is_refused_before_it_reaches_a_model(worker: Running) -> None:
    """As float32 it would be infinite, and so would every score of the user."""
    body = b'{"event_id": "huge", "ad_id": null, "action": "buy", "time_ms": 1, "value": 1e308}'
    before = await worker.client.metric(
        "headwater_records_rejected_total", topic=USER_EVENTS, reason="invalid_field"
    )
    await worker.send(USER_EVENTS, b"78", body)

    async def rejected() -> float:
        return await worker.client.metric(
            "headwater_records_rejected_total", topic=USER_EVENTS, reason="invalid_field"
        )

    await until(rejected, lambda now: now == before + 1)


async def test_the_probes_tell_ready(worker: Running) -> None:
    assert "[+] ads" in await worker.client.text("/readyz?verbose")
    assert await worker.client.text("/livez") == "alive\n"
    status = await worker.client.get("/v1/status")
    assert status["ready"]
    assert status["reasons"] == {}
    assert status["device"] == "cpu"


async def test_status_and_ad_tell_all_that_the_interface_names(worker: Running) -> None:
    await worker.upsert(203, 1, product="tea")
    ad = await worker.ad_becomes(203, present=True)
    assert {"present", "eligible", "reasons", "version", "slot", "shard"} <= ad.keys()
    status = await worker.client.get("/v1/status")
    named = {"ready", "reasons", "now_ms", "epoch", "offsets", "lag", "device", "models", "memory"}
    assert named <= status.keys()


async def test_the_dashboard_asks_for_what_a_worker_exports(worker: Running) -> None:
    suffixes = {
        "counter": ["_total"],
        "histogram": ["_bucket", "_sum", "_count"],
        "info": ["_info"],
        "gauge": ["", "_info"],  # the text format has no infos
    }
    families = text_string_to_metric_families(await worker.client.text("/metrics"))
    exported = {f.name + suffix for f in families for suffix in suffixes.get(f.type, ())}
    queries = [query for row in ROWS for panel in row.panels for query in panel.queries]
    expressions = " ".join(query.expression for query in queries)
    asked = set(re.findall(r"\b(?:headwater|process|python)_[a-z_]+\b", expressions))
    assert asked
    assert asked <= exported
