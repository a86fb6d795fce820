"""A data set of other columns, other users and another trade: trained and served by config alone.

What was planted in it is found by the whole: files, column map, training, replay, worker.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import news_site
import numpy as np
import pytest

from daemon import training
from daemon.client import WorkerClient
from daemon.datasets import mapping
from daemon.datasets.recording import MappedRecording
from daemon.demo.arrival import Arrival
from daemon.process import WorkerProcess
from daemon.replay import Replay
from stream import topics
from stream.publish import Publisher
from stream.settings import Kafka

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
    await topics.create_missing(kafka)
    async with Publisher(kafka) as publisher:
        recording = MappedRecording(kafka, mapping.load(site.map))
        await Replay(kafka, publisher, recording).until(recording.end_ms)

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
