"""Claims about serving: it is what was trained, it is causal, and strangers get an answer."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoints
from model.features import Encoder, History, Request
from model.retriever import Retriever, RetrieverQuery
from model.retriever.parts import Parts
from model.retriever.periods import PeriodBuilder
from model.retriever.population import Population
from model.retriever.tensors import PeriodTensors, UserTensors
from model.schema import Schema
from model.tables import TrainingTables

WEEK_MS = 7 * 86_400_000
NOW_MS = 8 * WEEK_MS
KINDS, ITEMS = 4, 40


def ads_of(encoder: Encoder, items: range = range(ITEMS)) -> np.ndarray:
    return encoder.items(
        [{"product": [f"p{i}"], "kind": [f"k{i % KINDS}"], "slot": ["D"]} for i in items]
    )


def request_of(encoder: Encoder, items: list[int], now_ms: int = NOW_MS) -> Request:
    """A user who bought one of the items a day, the last one a day ago."""
    day = 86_400_000
    history = encoder.history(
        [
            (
                now_ms - (len(items) - at) * day,
                "buy",
                2.0,
                {"product": [f"p{item}"], "kind": [f"k{item % KINDS}"]},
            )
            for at, item in enumerate(items)
        ]
    )
    return Request(encoder.profile({"age": ["a1"]}), encoder.context({}, now_ms), now_ms, history)


def scores(retriever: Retriever, query: RetrieverQuery, ads: np.ndarray) -> np.ndarray:
    """What the index computes: the query's weights on each ad's values, and the product."""
    weights = dict(zip(query.raw_ids.tolist(), query.weights.tolist(), strict=True))
    hits = np.array([[weights.get(value, 0.0) for value in row] for row in ads.tolist()])
    real = retriever.embed(ads).astype(np.float32) * retriever.embedding_scale
    return hits.sum(axis=1) + real @ query.vector


def test_serving_scores_are_the_trained_ones(
    world: TrainingTables, schema: Schema, folder: Path
) -> None:
    """The whole way through queries and int8 vectors, against one forward pass."""
    checkpoint = checkpoints.read(folder, "retriever")
    parts = Parts.unpack(checkpoint)
    retriever = Retriever(parts, checkpoint.version)
    population = Population.of(world, Encoder(schema))
    builder = PeriodBuilder(population, parts.vocabulary, parts.settings.history_events)
    at = len(population.periods) - 1
    period = replace(builder.build(at, parts.cooccurrence), priors=parts.priors)
    users = UserTensors.of(
        [example.user for example in period.examples], period.values, parts.profiles
    )
    with torch.inference_mode():
        trained = parts.network(PeriodTensors.of(period), users).numpy()
    buyers = np.unique(population.bought(population.periods[at]).users)
    assert len(buyers) == len(trained)
    for user, wanted in zip(buyers, trained, strict=True):
        query = retriever.query(
            Request(
                population.profiles[user],
                population.contexts[user],
                population.periods[at].start_ms,
                population.histories[user],
            )
        )
        # Half an int8 step in each dimension, and what float32 loses.
        step = retriever.embedding_scale * np.abs(query.vector).sum() / 2 + 1e-3
        np.testing.assert_allclose(scores(retriever, query, period.items), wanted, atol=step)


def test_own_taste_is_found(retriever: Retriever) -> None:
    encoder = Encoder(retriever.schema)
    ads = ads_of(encoder)
    query = retriever.query(request_of(encoder, [0, 4, 1, 5, 0, 4]))
    order = np.argsort(-scores(retriever, query, ads))
    assert {0, 4} <= set(order[:8].tolist())
    liked = np.isin(order % KINDS, (0, 1))
    assert liked[:20].mean() > 0.9


def test_only_events_strictly_before_now_count(retriever: Retriever) -> None:
    encoder = Encoder(retriever.schema)
    request = request_of(encoder, [0, 1, 2])
    later = encoder.history(
        [
            (int(time), "buy", 2.0, {"product": ["p9"], "kind": ["k1"]})
            for time in (NOW_MS, NOW_MS + 1)
        ]
    )
    joined = History(
        *(
            np.concatenate((getattr(request.history, name), getattr(later, name)))
            for name in ("time_ms", "actions", "values", "items")
        )
    )
    assert_same(retriever.query(request), retriever.query(replace(request, history=joined)))


def test_only_the_newest_events_count(folder: Path) -> None:
    checkpoint = checkpoints.read(folder, "retriever")
    parts = Parts.unpack(checkpoint)
    short = Retriever(replace(parts, settings=replace(parts.settings, history_events=2)), "short")
    encoder = Encoder(parts.schema)
    request = request_of(encoder, [0, 1, 2, 3])
    newest = replace(request, history=request.history.newest(2))
    assert_same(short.query(request), short.query(newest))


def test_stranger_without_history_gets_a_vector(retriever: Retriever) -> None:
    encoder = Encoder(retriever.schema)
    stranger = replace(request_of(encoder, []), profile=encoder.profile({}))
    query = retriever.query(stranger)
    assert len(query.raw_ids) == len(query.weights) == 0
    assert np.isfinite(query.vector).all()
    assert query.vector.shape == (retriever.embedding_width,)


def test_new_product_of_a_liked_kind_beats_one_of_another(retriever: Retriever) -> None:
    """An ad of a product that training never saw is scored by its other fields."""
    encoder = Encoder(retriever.schema)
    ads = encoder.items(
        [
            {"product": ["new1"], "kind": ["k0"], "slot": ["D"]},
            {"product": ["new2"], "kind": ["k3"], "slot": ["D"]},
            {"product": ["new3"]},
        ]
    )
    query = retriever.query(request_of(encoder, [0, 4, 1, 5, 8, 12]))
    found = scores(retriever, query, ads)
    assert found[0] > found[1]
    assert np.isfinite(found).all()


def test_embedding_a_batch_is_embedding_each_ad(retriever: Retriever) -> None:
    ads = ads_of(Encoder(retriever.schema))
    together = retriever.embed(ads)
    assert together.dtype == np.int8
    assert together.shape == (len(ads), retriever.embedding_width)
    alone = np.concatenate([retriever.embed(ads[at : at + 1]) for at in range(len(ads))])
    # The last bit of float32 may differ with the batch; then so may the rounding.
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert retriever.embed(ads[:0]).shape == (0, retriever.embedding_width)
    assert together.min() >= -127


def test_query_lists_distinct_features_strongest_first(folder: Path) -> None:
    checkpoint = checkpoints.read(folder, "retriever")
    parts = Parts.unpack(checkpoint)
    encoder = Encoder(parts.schema)
    request = request_of(encoder, list(range(12)))
    whole = Retriever(parts, "whole").query(request)
    assert len(np.unique(whole.raw_ids)) == len(whole.raw_ids)
    assert (np.diff(np.abs(whole.weights)) <= 0).all()
    capped = Retriever(
        replace(parts, settings=replace(parts.settings, query_features=5)), "capped"
    ).query(request)
    np.testing.assert_array_equal(capped.raw_ids, whole.raw_ids[:5])
    np.testing.assert_array_equal(capped.weights, whole.weights[:5])


def test_listed_pairs_reach_items_that_the_user_never_met(retriever: Retriever) -> None:
    encoder = Encoder(retriever.schema)
    query = retriever.query(request_of(encoder, [0, 4, 8]))
    met = {encoder.raw_id(f"product=p{item}") for item in (0, 4, 8)}
    products = {encoder.raw_id(f"product=p{item}") for item in range(ITEMS)}
    assert (products - met) & set(query.raw_ids.tolist())


def test_threads_get_what_one_thread_gets(retriever: Retriever) -> None:
    encoder = Encoder(retriever.schema)
    requests = [request_of(encoder, list(range(start, start + 6))) for start in range(8)]
    wanted = [retriever.query(request) for request in requests]
    found: list[RetrieverQuery | None] = [None] * len(requests)

    def answer(at: int) -> None:
        found[at] = retriever.query(requests[at])

    threads = [threading.Thread(target=answer, args=(at,)) for at in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(wanted, found, strict=True):
        assert other is not None
        assert_same(one, other)


def test_damaged_checkpoint_and_other_schema_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with pytest.raises(checkpoints.SchemaMismatch):
        Retriever.load(copy, Schema(("product",)))
    (copy / checkpoints.WEIGHTS).write_bytes(b"")
    with pytest.raises(checkpoints.CheckpointCorrupt):
        Retriever.load(copy)
    with pytest.raises(checkpoints.CheckpointMissing):
        Retriever.load(tmp_path / "none")


def assert_same(one: RetrieverQuery, other: RetrieverQuery) -> None:
    np.testing.assert_array_equal(one.raw_ids, other.raw_ids)
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.vector, other.vector)


def test_a_checkpoint_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config"]["of_another_version"] = 1
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(checkpoints.CheckpointCorrupt, match="train it again"):
        Retriever.load(other)
