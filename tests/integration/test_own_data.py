"""A data set of other columns, other users and another trade: trained and served by config alone.

What was planted in it is found by the whole: files, column map, training, replay, worker.
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import news_site
import numpy as np
import pyarrow as pa
import pytest

from daemon import training
from daemon.client import WorkerClient
from daemon.datasets import mapping, parquet
from daemon.datasets.recording import MappedRecording
from daemon.datasets.topics import training_tables as from_topics
from daemon.demo.arrival import Arrival
from daemon.process import WorkerProcess
from model.features import Encoder
from model.schema import Schema
from stream import topics
from stream.codec import encode_impression
from stream.publish import Publisher
from stream.records import Impression, ServedAd
from stream.settings import Kafka

ROOT = Path(__file__).resolve().parents[2]

MODELS = """
    [clock]
    mode = "replay"
    [models]
    retriever = "finds"
    ranker = "orders"
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
        await publisher.send(
            kafka.topic("impressions"), b"1000", encode_impression(_impression(one))
        )
    of_topics = mapping.DataMap(fields=data.fields, folder=tmp_path, attribution_hours=0.1)
    told = await from_topics(of_topics, kafka)
    expected = parquet.training_tables(data)
    names = expected.events.column_names
    left, right = (table.events.select(names).to_pylist() for table in (told, expected))
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
    assert told.users.to_pylist() == [{"user_id": 1000, "country": "c1", "born": None}]
    told.check(data.fields)

    early = await from_topics(of_topics, kafka, until_ms=recording.first_ms + 1)
    assert early.events["time_ms"].unique().to_pylist() == [recording.first_ms]


def _impression(shown: pa.Table) -> Impression:
    """As a worker logs it: with the fields that the models read, also derived ones."""
    rows = shown.to_pylist()
    schema = Schema.from_dict(tomllib.loads(news_site.MAP)["schema"])
    ads = []
    for rank, row in enumerate(rows, start=1):
        raw = {name: (value,) for name, value in row.items() if isinstance(value, str)}
        features = {"story": row["story"], "writer": row["writer"], **schema.derive(raw)}
        named = {name: {value: 1.0} for name, value in features.items() if value is not None}
        ads.append(ServedAd(row["ad_id"], rank, 1.0, 0.5, named))
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
