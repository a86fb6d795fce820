"""A worker with trained models: served is what was trained, and what an outside reader computes.

The world is small and made up; the models, the broker and the worker are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from daemon.client import WorkerClient
from daemon.demo.arrival import Arrival
from daemon.demo.by_hand import same
from daemon.process import WorkerProcess
from model.features import Encoder, Request
from model.ranker import Ranker, train_ranker
from model.retriever import Retriever, train_retriever
from model.schema import Schema
from model.tables import TrainingTables
from stream import topics
from stream.codec import (
    decode_impression,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_id,
    encode_tick,
)
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.records import Ad, ClockTick, Delivery, Impression, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, IMPRESSIONS, USER_EVENTS

WEEK_MS = 7 * 86_400_000
USERS, PRODUCTS, WEEKS = 32, 30, 8
NOW_MS = WEEKS * WEEK_MS
SCHEMA = Schema(("product", "kind", "slot"), ("age",), ("store",), ("buy",))

Event = tuple[int, int, int]
"""User, time, product."""


def product(number: int) -> dict[str, str]:
    return {"product": f"p{number}", "kind": f"k{number % 4}"}


def slot(number: int) -> str:
    return "DF"[number % 2]


def columns(numbers: list[int], *, slots: bool) -> dict[str, list[str]]:
    features = [product(number) | ({"slot": slot(number)} if slots else {}) for number in numbers]
    return {field: [row[field] for row in features] for field in features[0]}


@dataclass(frozen=True)
class World:
    """What happened: everybody buys his own three products again and again."""

    events: list[Event]
    tables: TrainingTables


@pytest.fixture(scope="module")
def world() -> World:
    draw = np.random.default_rng(3)
    events: list[Event] = []
    shown: list[tuple[int, int, int, int]] = []
    for user in range(USERS):
        favourites = draw.choice(PRODUCTS, 3, replace=False).tolist()
        for week in range(WEEKS):
            bought = [favourites[0], favourites[1 + week % 2], int(draw.integers(PRODUCTS))]
            events += [(user, week * WEEK_MS + int(draw.integers(WEEK_MS)), n) for n in bought]
            others = draw.choice(PRODUCTS, 8, replace=False).tolist()
            shown += [(user, week, n, int(n in bought)) for n in {*bought, *others}]
    events.sort(key=lambda event: event[1])
    numbers = [number for *_, number in events]
    live = [(week, number) for week in range(WEEKS) for number in range(PRODUCTS)]
    return World(
        events,
        TrainingTables(
            events=pa.table(
                {
                    "user_id": pa.array([user for user, *_ in events], pa.int64()),
                    "time_ms": pa.array([time for _, time, _ in events], pa.int64()),
                    "action": ["buy"] * len(events),
                    "value": [1.0 + number % 3 for number in numbers],
                    **columns(numbers, slots=False),
                }
            ),
            users=pa.table(
                {
                    "user_id": pa.array(range(USERS), pa.int64()),
                    "age": [f"a{user % 3}" for user in range(USERS)],
                }
            ),
            ads=pa.table(
                {
                    "ad_id": pa.array([number for _, number in live], pa.int64()),
                    "week": pa.array([week for week, _ in live], pa.int32()),
                    "start_ms": pa.array([week * WEEK_MS for week, _ in live], pa.int64()),
                    "end_ms": pa.array([(week + 1) * WEEK_MS for week, _ in live], pa.int64()),
                    **columns([number for _, number in live], slots=True),
                }
            ),
            visits=pa.table(
                {
                    "user_id": pa.array([user for user, *_ in shown], pa.int64()),
                    "time_ms": pa.array([week * WEEK_MS for _, week, *_ in shown], pa.int64()),
                    "visit_id": pa.array([u * WEEKS + w for u, w, *_ in shown], pa.int64()),
                    "ad_id": pa.array([number for *_, number, _ in shown], pa.int64()),
                    **columns([number for *_, number, _ in shown], slots=True),
                    "store": ["s1"] * len(shown),
                    "engage": pa.array([bought for *_, bought in shown], pa.int8()),
                    "consume": pa.array([b * (n % 2) for *_, n, b in shown], pa.int8()),
                }
            ),
        ),
    )


@pytest.fixture(scope="module")
def state_dir(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with both checkpoints."""
    folder = tmp_path_factory.mktemp("state")
    train_retriever(world.tables, SCHEMA, "tiny", folder / "checkpoints" / "finds")
    train_ranker(world.tables, SCHEMA, "tiny", folder / "checkpoints" / "orders")
    return folder


@pytest.fixture
def config(state_dir: Path, kafka: Kafka, write_config: Callable[..., Path]) -> Path:
    more = """
        [clock]
        mode = "replay"
        [models]
        retriever = "finds"
        ranker = "orders"
        [impressions]
        share = 1.0
        """
    return write_config(state_dir, kafka, more)


async def publish(kafka: Kafka, world: World) -> None:
    await topics.create_missing(kafka)
    ads, control, events = (kafka.topic(name) for name in (ADS, ADS_CONTROL, USER_EVENTS))
    async with Publisher(kafka) as publisher:
        for partition in await publisher.partitions(control):
            tick = encode_tick(ClockTick(NOW_MS))
            await publisher.send(control, b"_clock", tick, partition=partition)
        await publisher.flush()
        for number in range(PRODUCTS):
            features = product(number) | {"slot": slot(number)}
            ad = Ad(1, "acme", "c", {field: {value: 1.0} for field, value in features.items()})
            flight = Delivery(1, bid=1.0 + number % 2, start_ms=0, end_ms=2 * NOW_MS)
            await publisher.send(control, encode_id(number), encode_delivery(flight))
            await publisher.send(ads, encode_id(number), encode_ad(ad))
        for at, (user, time_ms, number) in enumerate(world.events):
            features = {field: (value,) for field, value in product(number).items()}
            event = UserEvent(f"e{at}", None, "buy", time_ms, 1.0 + number % 3, features)
            await publisher.send(events, encode_id(user), encode_event(event))
        await publisher.flush()


def body(user: int, **more: Any) -> dict[str, Any]:
    return {
        "request_id": f"r{user}",
        "user_id": str(user),
        "user": {"age": [f"a{user % 3}"]},
        "context": {"store": ["s1"]},
        "k": PRODUCTS,
        "seed": 1,
        "now_ms": NOW_MS,
        **more,
    }


def as_the_models_read_it(encoder: Encoder, world: World, user: int) -> Request:
    history = [
        (time_ms, "buy", 1.0 + n % 3, {f: (v,) for f, v in product(n).items()})
        for who, time_ms, n in world.events
        if who == user
    ]
    asked = body(user)
    return Request(
        encoder.profile(asked["user"]),
        encoder.context(asked["context"], NOW_MS),
        NOW_MS,
        encoder.history(history),
    )


async def test_scores_served_are_those_of_the_trained_models_and_survive_a_kill(
    kafka: Kafka, world: World, config: Path, state_dir: Path
) -> None:
    """Features as served = features as trained: the models, asked directly, say the same."""
    await publish(kafka, world)
    worker = WorkerProcess(config, state_dir / f"{kafka.prefix}.log")
    try:
        async with WorkerClient(await worker.start()) as client, Arrival(kafka, client) as arrival:
            await worker.wait_ready(client)
            await arrival.wait()
            users = range(0, USERS, 4)
            before = [await client.post("/v1/score", body(user)) for user in users]
            for user, answer in zip(users, before, strict=True):
                assert answer["error"] is None
                assert answer["flags"] == []
                _assert_scores(answer, world, user, state_dir)
            cold = await client.post("/v1/score", body(10**9))
            assert cold["flags"] == ["cold_start"]
            assert len(cold["ads"]) == PRODUCTS
            unranked = await client.post("/v1/score", body(0, rank=False))
            scores = [ad["score"] for ad in unranked["ads"]]
            assert scores == sorted(scores, reverse=True)
            for place, ad in enumerate(unranked["ads"]):
                await _assert_explained(client, ad, place + 1)

            logged = await impressions(kafka, len(before))
            for user, answer in zip(users, before, strict=True):
                _assert_logged(logged[f"r{user}"], answer, world, user, state_dir)

            await worker.kill()
            client.move(await worker.start())
            await worker.wait_ready(client)
            await arrival.wait()
            after = [await client.post("/v1/score", body(user)) for user in users]
            assert all(map(same, before, after))
            assert await worker.stop() == 0
    finally:
        await worker.stop()


async def impressions(kafka: Kafka, count: int) -> dict[str, Impression]:
    """What was served first to each request id."""
    found: dict[str, Impression] = {}
    async with asyncio.timeout(30), TopicReader(kafka, [kafka.topic(IMPRESSIONS)]) as reader:
        while len(found) < count:
            for record in await reader.read(100):
                assert record.value is not None
                impression = decode_impression(record.value)
                found.setdefault(impression.request_id, impression)
    return found


def _assert_logged(
    impression: Impression, answer: dict[str, Any], world: World, user: int, state_dir: Path
) -> None:
    """What was served can be trained on: the log alone leads to the probabilities served."""
    served = [(str(ad.ad_id), ad.rank, ad.score, ad.value) for ad in impression.ads]
    answered = enumerate(answer["ads"], start=1)
    assert served == [(ad["ad_id"], rank, ad["score"], ad["value"]) for rank, ad in answered]
    encoder = Encoder(SCHEMA)
    asked = Request(
        encoder.profile(impression.user),
        encoder.context(impression.context, impression.time_ms),
        impression.time_ms,
        as_the_models_read_it(encoder, world, user).history,
    )
    items = encoder.items([ad.features for ad in impression.ads])
    again = Ranker.load(state_dir / "checkpoints" / "orders").score(asked, items)
    probabilities = [[ad["tasks"]["engage"], ad["tasks"]["consume"]] for ad in answer["ads"]]
    np.testing.assert_allclose(again, probabilities, atol=1e-5)


async def _assert_explained(client: WorkerClient, ad: dict[str, Any], rank: int) -> None:
    """The parts add up to the served score: learned matches, embeddings and the bid."""
    explained = await client.post("/v1/explain", body(0, ad_id=ad["ad_id"]))
    matched = {feature["feature"] for feature in explained["features"]}
    own = {f"{field}={value}" for field, value in product(int(ad["ad_id"])).items()}
    assert matched <= own | {f"slot={slot(int(ad['ad_id']))}"}
    parts = sum(feature["points"] for feature in explained["features"])
    assert explained["points"] == parts + explained["dense"] + explained["bias"]
    assert explained["score"] == ad["score"] == explained["points"] * explained["unit"]
    assert (explained["eligible"], explained["rank"]) == (True, rank)
    assert explained["dense"] != 0
    for feature in explained["features"]:
        points = feature["ad_weight"] * feature["query_weight"] / explained["unit"]
        assert points == pytest.approx(feature["points"])


def _assert_scores(answer: dict[str, Any], world: World, user: int, state_dir: Path) -> None:
    retriever = Retriever.load(state_dir / "checkpoints" / "finds")
    ranker = Ranker.load(state_dir / "checkpoints" / "orders")
    encoder = Encoder(SCHEMA)
    request = as_the_models_read_it(encoder, world, user)
    numbers = [int(ad["ad_id"]) for ad in answer["ads"]]
    features = [product(n) | {"slot": slot(n)} for n in numbers]
    items = encoder.items([{field: (value,) for field, value in row.items()} for row in features])

    query = retriever.query(request)
    weights = dict(zip(query.raw_ids.tolist(), query.weights.tolist(), strict=True))
    matches = [sum(weights.get(raw, 0.0) for raw in row) for row in items.tolist()]
    products = retriever.embed(items) @ query.vector * retriever.embedding_scale
    bids = np.array([1.0 + n % 2 for n in numbers], np.float32)
    expected = np.array(matches) + products + np.log(bids)
    # A weight of 6 bits is off by half a step at most, for each feature that an ad has.
    step = max(np.abs(query.weights)) / 63
    scores = np.array([ad["score"] for ad in answer["ads"]])
    assert np.abs(scores - expected).max() <= step * items.shape[1]

    probabilities = ranker.score(request, items)
    served = np.array([[ad["tasks"]["engage"], ad["tasks"]["consume"]] for ad in answer["ads"]])
    np.testing.assert_allclose(served, probabilities, atol=1e-5)
    values = [ad["value"] for ad in answer["ads"]]
    np.testing.assert_allclose(values, bids * probabilities[:, 0], atol=1e-5)
    assert values == sorted(values, reverse=True)
    for ad, bid in zip(answer["ads"], bids.tolist(), strict=True):
        factors = ad["factors"]
        assert (factors["bid"], factors["consume"]) == (bid, 1.0)
        assert factors["engage"] == pytest.approx(ad["tasks"]["engage"])
        assert ad["value"] == pytest.approx(np.prod(list(factors.values())), rel=1e-6)
