"""Twins are called alike, and a whole search is the same through either."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings, Query
from gpuindex.kernels.cpu.shards import PAGE_SLOTS
from gpuindex.query import to_integers
from gpuindex.slots import NEVER
from gpuindex.view import IndexView

OPERATIONS = ["build", "score", "dense", "topk", "mark", "fold", "label", "sort_by_label"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_twins_have_one_name_and_one_signature(
    cpu_operations: dict[str, Any], cuda_operations: dict[str, Any], name: str
) -> None:
    cpu, cuda = cpu_operations[name].py_func, cuda_operations[name]
    assert cpu.__name__ == cuda.__name__ == name
    assert inspect.signature(cpu) == inspect.signature(cuda)


WIDTH = 5
FEATURES = 9


def made_up(ads: int, random: np.random.Generator, first_id: int) -> AdBatch:
    """Ads that carry the first features often and the last ones seldom."""
    present = random.random((ads, FEATURES)) < 0.9 ** np.arange(FEATURES) ** 2
    places = np.nonzero(present)
    return AdBatch(
        ad_ids=random.permutation(ads) + first_id,
        versions=np.ones(ads, np.int64),
        deleted=np.zeros(ads, np.bool_),
        feature_offsets=np.append(0, np.cumsum(present.sum(axis=1))).astype(np.int32),
        feature_ids=places[1].astype(np.int32),
        weights=random.integers(1, 256, len(places[1])).astype(np.uint8),
        embeddings=random.integers(-128, 128, (ads, WIDTH), dtype=np.int8),
        payload=np.zeros((ads, 0), np.int64),
        targeting=[None] * ads,
    )


@pytest.fixture
def view() -> IndexView:
    """A base, a delta and a tail, some ads dead and some not to be served."""
    random = np.random.default_rng(11)
    index = Index(IndexSettings(embedding_width=WIDTH, payload_width=0))
    for feature in range(FEATURES):
        index.features.intern(f"f={feature}")
    for first_id in (0, 120):
        index.apply(made_up(150, random, first_id))
        index.seal()
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    index.apply(made_up(90, random, 250))
    index.seal()
    index.apply(made_up(40, random, 330))
    ads = 370
    index.apply_delivery(
        DeliveryBatch(
            ad_ids=np.arange(ads),
            versions=np.ones(ads, np.int64),
            reset=np.zeros(ads, np.bool_),
            active=random.random(ads) < 0.8,
            start_ms=np.zeros(ads, np.int64),
            end_ms=np.full(ads, NEVER),
            budget_left=np.full(ads, np.inf),
            pacing=random.choice([0.3, 1.0], ads).astype(np.float32),
            bid=np.ones(ads, np.float32),
            bias=random.choice([0.0, 0.5, -2.0], ads).astype(np.float32),
        )
    )
    return index.publish()


@pytest.mark.parametrize("mode", ["sparse", "full"])
def test_a_search_finds_what_the_view_finds(twins: Any, view: IndexView, mode: str) -> None:
    """Score, dense and topk one after the other, on the view's own arrays."""
    random = np.random.default_rng(12)
    query = Query(
        feature_ids=np.arange(FEATURES, dtype=np.int32),
        weights=random.normal(0.3, 1, FEATURES).astype(np.float32),
        vector=random.normal(size=WIDTH).astype(np.float32),
        embedding_scale=0.01,
        now_ms=5,
        seed=3,
        mode=mode,
    )
    k = 60
    found = view.search(query, k)
    integers = to_integers(query, view.feature_count, WIDTH)
    tail, slots, put = view.tail, view.slots, twins.put
    table, _held = twins.table(list(zip(view.first_slots.tolist(), view.shards, strict=True)))
    scores = put(np.zeros(slots.count, np.int32))
    pages, biases = put(slots.pages[: slots.count // PAGE_SLOTS]), put(slots.pool.biases)
    twins.score(
        table,
        tail.first_slot,
        tail.ads,
        put(tail.bounds),
        put(tail.features),
        put(tail.weights),
        put(integers.features),
        put(integers.weights),
        0,
        put(np.zeros(view.feature_count, np.int32)),
        put(np.zeros((len(view.shards), FEATURES), np.int32)),
        scores,
        put(np.zeros(1, np.int32)),
        put(np.zeros(1, np.int32)),
    )
    if mode == "full":
        embeddings = put(tail.columns.embeddings)
        twins.dense(
            table,
            tail.first_slot,
            tail.ads,
            embeddings,
            put(integers.vector),
            integers.multiplier,
            integers.bias_factor,
            pages,
            biases,
            scores,
        )
    ad_ids, targeting = put(tail.columns.ad_ids), put(tail.columns.targeting)
    results = [put(np.zeros(k, dtype)) for dtype in (np.int32, np.int64, np.int32)]
    count = twins.topk(
        table,
        tail.first_slot,
        tail.ads,
        ad_ids,
        targeting,
        scores,
        put(np.zeros(1, np.int32)),
        -1,
        int(np.iinfo(np.int32).min) if mode == "full" else 1,
        put(slots.dead),
        view.epoch,
        pages,
        put(slots.pool.states),
        query.now_ms,
        query.seed,
        put(np.ones(1, np.uint8)),
        put(np.zeros(0, np.uint8)),
        put(np.zeros(k + 256, np.int64)),
        *results,
    )
    top_scores, top_ads, top_slots = (twins.get(array)[:count].tolist() for array in results)
    assert (top_scores, top_ads) == (found.scores.tolist(), found.ad_ids.tolist())
    assert top_slots == found.slots.tolist()
    assert count == k


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_the_order_of_threads_changes_nothing(
    scheduled_twins: Callable[..., Any],
    cpu_operations: dict[str, Any],
    ads: Any,
    order: str,
) -> None:
    """Lists are placed by atomics, and come out the same bytes all the same."""
    known = ads.drawn(300, [0.02, 0.5, 0.09])
    arguments = (known.bounds, known.features, known.weights, np.ones(300, np.uint8))
    wanted = cpu_operations["build"](300, *arguments, 3)
    built = scheduled_twins(order, 5).build(300, *arguments, 3)
    for own, other in zip(built, wanted, strict=True):
        np.testing.assert_array_equal(own, other)
