"""A data set of other columns, other users and another trade: trained and served by config alone.

What was planted in it is found by the whole: files, column map, training, replay, worker. And what
the worker served is what training would read of it.
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import news_site
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from daemon import training
from daemon.client import WorkerClient
from daemon.datasets import mapping, parquet
from daemon.datasets.recording import MappedRecording
from daemon.datasets.topics import training_tables as from_topics
from daemon.demo.arrival import Arrival
from daemon.process import WorkerProcess
from model.features import Encoder, History, Request
from model.ranker import Ranker
from model.ranker.examples import Histories
from model.schema import Schema
from model.tables import RETRIEVAL, TrainingTables
from stream import topics
from stream.codec import encode_event, encode_id, encode_impression
from stream.publish import Outgoing, Publisher
from stream.records import ERASE, Impression, ServedAd, UserEvent
from stream.settings import Kafka

# Of no reader of the site.
ERASED = 77
NOW_MS = news_site.NOW_MS

ROOT = Path(__file__).resolve().parents[2]

MODELS = """
    [clock]
    mode = "replay"
    [models]
    retriever = "finds"
    ranker = "orders"
    [impressions]
    share = 1.0
    """


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> news_site.NewsSite:
    return news_site.write(tmp_path_factory.mktemp("news"))


@pytest.fixture(scope="module")
def state_dir(site: news_site.NewsSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with both models of the site."""
    folder = tmp_path_factory.mktemp("state")
    lesson = training.mapped(site.map, until_ms=None)
    for kind, name in ((training.Kind.RETRIEVER, "finds"), (training.Kind.RANKER, "orders")):
        training.train(kind, lesson, "tiny", folder / "checkpoints" / name, lambda *_: None)
    return folder


async def test_what_was_planted_in_another_data_set_is_served(
    kafka: Kafka,
    site: news_site.NewsSite,
    state_dir: Path,
    write_config: Callable[..., Path],
) -> None:
    command = [sys.executable, "-m", "daemon", "replay", "--data", str(site.map)]
    kafka_is = ["--bootstrap", kafka.bootstrap, "--prefix", kafka.prefix]
    replay = await asyncio.create_subprocess_exec(*command, *kafka_is, cwd=ROOT)
    assert await replay.wait() == 0

    readers = list(site.likes)[::2]
    config = write_config(state_dir, kafka, MODELS)
    worker = WorkerProcess(config, state_dir / "worker.log")
    try:
        async with WorkerClient(await worker.start()) as client, Arrival(kafka, client) as arrival:
            await worker.wait_ready(client)
            await arrival.wait()
            ranked = [await _ask(client, reader) for reader in readers]
            found = [await _ask(client, reader, rank=False) for reader in readers]
            phones = [await _ask(client, reader, device="phone") for reader in readers]
            cold = await _ask(client, 5, user={"country": ["c2"]})
        assert await worker.stop() == 0
    finally:
        await worker.stop()

    for answers in (ranked, found):
        shares = [_liked(site, reader, a) for reader, a in zip(readers, answers, strict=True)]
        # Two desks of six: one in three by chance.
        assert np.mean(shares) > 0.9
    _assert_probabilities(site, dict(zip(readers, ranked, strict=True)))
    assert np.mean([_long(site, a) for a in phones]) < np.mean([_long(site, a) for a in ranked])
    assert cold["flags"] == ["cold_start"]
    assert len(cold["ads"]) == 10
    ranker = Ranker.load(state_dir / "checkpoints" / "orders")
    data = mapping.DataMap(fields=mapping.load(site.map).fields, folder=state_dir)
    trained_on = TrainedOn(await from_topics(data, kafka), ranker)
    asked = [*zip(readers, ranked, strict=True), *zip(readers, phones, strict=True), (5, cold)]
    for reader, answer in asked:
        trained_on.assert_equal(reader, answer)


class TrainedOn:
    """What a ranker says of visits as they are in the tables that training reads."""

    def __init__(self, tables: TrainingTables, ranker: Ranker) -> None:
        schema, encoder = ranker.schema, Encoder(ranker.schema)
        past = Histories.from_tables(tables, encoder, schema.item_fields)
        items = encoder.items_from_table(tables.visits)
        contexts = encoder.contexts_from_table(tables.visits)
        visits: dict[int, list[int]] = defaultdict(list)
        for row, visit_id in enumerate(tables.visits["visit_id"].to_pylist()):
            visits[visit_id].append(row)
        ad_ids = np.array(tables.visits["ad_id"])
        # (user, the ads in their order) -> every visit's probabilities.
        self._said: dict[tuple[int, tuple[int, ...]], list[Any]] = defaultdict(list)
        for rows in visits.values():
            user_id = tables.visits["user_id"][rows[0]].as_py()
            user = int(np.searchsorted(past.users, user_id))
            own = slice(past.bounds[user], past.bounds[user + 1])
            history = History(
                time_ms=past.events.time_ms[own],
                actions=past.actions[own].astype(np.int32),
                values=past.events.values[own],
                items=past.events.ids[own],
            )
            now_ms = tables.visits["time_ms"][rows[0]].as_py()
            request = Request(past.profiles[user], contexts[rows[0]], now_ms, history)
            probabilities = ranker.score(request, items[rows])
            self._said[user_id, tuple(ad_ids[rows].tolist())].append(probabilities)

    def assert_equal(self, user_id: int, answer: dict[str, Any]) -> None:
        """An answer's probabilities are those of a visit of the same user to the same ads."""
        served = [list(ad["tasks"].values()) for ad in answer["ads"]]
        said = self._said[user_id, tuple(int(ad["ad_id"]) for ad in answer["ads"])]
        assert any(np.allclose(served, each, atol=1e-5) for each in said), (served, said)


async def test_topics_tell_what_the_files_told(
    kafka: Kafka, site: news_site.NewsSite, tmp_path: Path
) -> None:
    """So that a model can be trained from what was replayed, by the schema alone."""
    await topics.create_missing(kafka)
    data = mapping.load(site.map)
    async with Publisher(kafka) as publisher:
        recording = MappedRecording(kafka, data)
        for _ in range(2):  # What is delivered twice happened once.
            await publisher.send_all(recording.events(recording.first_ms, recording.end_ms))
        await publisher.send_all(recording.ad_changes(recording.start_ms))
        one = parquet.training_tables(data).visits.slice(0, news_site.SHOWN)
        await publisher.send_all(_of_an_erased_user(kafka))
        gone = Impression(request_id="gone", user_id=ERASED, time_ms=NOW_MS)
        for seen in (_impression(one), gone):
            key, value = encode_id(seen.user_id), encode_impression(seen)
            await publisher.send(kafka.topic("impressions"), key, value)
    of_topics = mapping.DataMap(fields=data.fields, folder=tmp_path, attribution_hours=0.1)
    told = await from_topics(of_topics, kafka)
    expected = parquet.training_tables(data)
    names = expected.events.column_names
    events = told.events.select(names)
    of_erased = pc.equal(events["user_id"], ERASED)
    assert events.filter(of_erased)["time_ms"].to_pylist() == [NOW_MS - 1, NOW_MS + 3]
    events = events.filter(pc.invert(of_erased))
    left, right = (table.to_pylist() for table in (events, expected.events.select(names)))
    # Partitions are read one after another: only a user's own events keep their order.
    assert sorted(left, key=lambda row: row["user_id"]) == sorted(
        right, key=lambda row: row["user_id"]
    )
    encoder = Encoder(data.fields)
    for name in ("events", "ads", "visits"):
        assert getattr(told, name).num_rows > 0
    np.testing.assert_array_equal(
        np.unique(encoder.items_from_table(told.ads), axis=0),
        np.unique(encoder.items_from_table(expected.ads), axis=0),
    )
    assert told.visits["engage"].to_pylist() == one["engage"].to_pylist()
    np.testing.assert_array_equal(
        encoder.items_from_table(told.visits), encoder.items_from_table(one)
    )
    np.testing.assert_array_equal(
        encoder.contexts_from_table(told.visits), encoder.contexts_from_table(one)
    )
    assert told.visits[RETRIEVAL].to_pylist() == [1.0 / rank for rank in range(1, len(one) + 1)]
    assert told.users.to_pylist() == [{"user_id": 1000, "country": "c1", "born": None}]
    told.check(data.fields)

    early = await from_topics(of_topics, kafka, until_ms=recording.first_ms + 1)
    assert early.events["time_ms"].unique().to_pylist() == [recording.first_ms]


def _of_an_erased_user(kafka: Kafka) -> list[Outgoing]:
    """Something before the erasure, and after it, and twice, the later time first."""
    events = [
        ("before", NOW_MS - 2, "open"),
        ("erase", NOW_MS, ERASE),
        ("late", NOW_MS - 1, "open"),
        ("moved", NOW_MS + 3, "open"),
        ("moved", NOW_MS + 2, "open"),
    ]
    topic, key = kafka.topic("user-events"), encode_id(ERASED)
    return [
        (topic, key, encode_event(UserEvent(event_id, None, action, time_ms)), ())
        for event_id, time_ms, action in events
    ]


def _impression(shown: pa.Table) -> Impression:
    """As a worker logs it: with the fields that the models read, also derived ones."""
    rows = shown.to_pylist()
    schema = Schema.from_dict(tomllib.loads(news_site.MAP)["schema"])
    ads = []
    for rank, row in enumerate(rows, start=1):
        raw = {name: (value,) for name, value in row.items() if isinstance(value, str)}
        features = {"story": row["story"], "writer": row["writer"], **schema.derive(raw)}
        named = {name: {value: 1.0} for name, value in features.items() if value is not None}
        ads.append(ServedAd(row["ad_id"], rank, 1.0 / rank, 0.5, named))
    return Impression(
        request_id="r",
        user_id=rows[0]["user_id"],
        user={"country": ("c1",)},
        context={"device": (rows[0]["device"],)},
        time_ms=rows[0]["time_ms"],
        ads=tuple(ads),
    )


async def _ask(
    client: WorkerClient, reader: int, device: str = "desktop", **more: Any
) -> dict[str, Any]:
    answer = await client.post(
        "/v1/score",
        {
            "request_id": f"r{reader}",
            "user_id": str(reader),
            "context": {"device": [device]},
            "now_ms": news_site.NOW_MS,
            **more,
        },
    )
    assert answer["error"] is None
    return answer


def _liked(site: news_site.NewsSite, reader: int, answer: dict[str, Any]) -> float:
    desks = [site.desks[int(ad["ad_id"])] for ad in answer["ads"]]
    return float(np.mean([desk in site.likes[reader] for desk in desks]))


def _long(site: news_site.NewsSite, answer: dict[str, Any]) -> float:
    """Share of the stories that phones do not like."""
    return float(np.mean([site.words[int(ad["ad_id"])] > 1000 for ad in answer["ads"]]))


def _assert_probabilities(site: news_site.NewsSite, answers: dict[int, dict[str, Any]]) -> None:
    """What is liked was opened in 7 cases of 10 on a desktop, and half of that was finished."""
    tasks = [
        ad["tasks"]
        for reader, answer in answers.items()
        for ad in answer["ads"]
        if site.desks[int(ad["ad_id"])] in site.likes[reader]
    ]
    assert 0.5 < np.mean([task["engage"] for task in tasks]) < 0.9
    assert 0.2 < np.mean([task["consume"] for task in tasks]) < 0.5
