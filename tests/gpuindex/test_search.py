"""A search finds exactly the best ads, whatever the layout of the index."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpuindex import Index, InvalidQuery, Query, Rule, SearchThreads
from gpuindex.kernels.cpu.shards import BLOCK_SLOTS

# From a list of one ad in a thousand to a column on every ad.
DENSITIES = [0.001, 0.01, 0.02, 0.05, 0.09, 0.11, 0.2, 0.3, 0.5, 0.8, 0.9, 1.0]


def in_one_delta(index: Index, catalog: Any) -> None:
    index.apply(catalog.batch(slice(None)))
    index.seal()


def in_the_tail(index: Index, catalog: Any) -> None:
    index.apply(catalog.batch(slice(None)))


def in_many_deltas(index: Index, catalog: Any) -> None:
    for rows in np.array_split(np.arange(len(catalog.ad_ids)), 7):
        if len(rows):
            index.apply(catalog.batch(slice(rows[0], rows[-1] + 1)))
            index.seal()


def compacted(index: Index, catalog: Any) -> None:
    # Each ad twice: the older version is dead when shards are folded.
    half = slice(0, len(catalog.ad_ids) // 2)
    index.apply(catalog.batch(half))
    index.seal()
    index.apply(catalog.batch(slice(None), version=2))
    index.seal()
    index.start_compaction(0)
    while index.compacting:
        index.maintain()


def half_compacted_with_a_tail(index: Index, catalog: Any) -> None:
    third = len(catalog.ad_ids) // 3
    index.apply(catalog.batch(slice(0, third)))
    index.seal()
    index.apply(catalog.batch(slice(third, 2 * third)))
    index.seal()
    index.start_compaction(0)
    index.maintain()
    index.apply(catalog.batch(slice(2 * third, None)))


LAYOUTS = [in_one_delta, in_the_tail, in_many_deltas, compacted, half_compacted_with_a_tail]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ads", [1, 255, 257, 3_000, 2 * BLOCK_SLOTS + 1])
def test_search_equals_numpy_in_every_layout(
    catalog: Any, new_index: Any, new_query: Any, layout: Callable[..., None], ads: int
) -> None:
    known = catalog.drawn(ads, DENSITIES)
    index = new_index(len(DENSITIES))
    index.apply_delivery(known.delivery())
    layout(index, known)
    view = index.publish()
    assert sum(view.counts().values()) == ads
    for mode in ("sparse", "full"):
        for bits in (6, 12):
            query = new_query(len(DENSITIES), mode, seed=ads, query_bits=bits)
            for k in (1, 100, 5_000):
                found = view.search(query, k)
                assert (found.ad_ids.tolist(), found.scores.tolist()) == known.best(query, k)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_search_on_threads_finds_the_same(
    catalog: Any, new_index: Any, new_query: Any, layout: Callable[..., None]
) -> None:
    """Whatever the number of threads, more than there are blocks included."""
    known = catalog.drawn(3 * BLOCK_SLOTS + 500, DENSITIES)
    index = new_index(len(DENSITIES))
    index.apply_delivery(known.delivery())
    layout(index, known)
    view = index.publish()
    for count in (1, 2, 3, 7):
        threads = SearchThreads(count)
        for features, mode in ((2, "sparse"), (len(DENSITIES), "sparse"), (5, "full")):
            query = new_query(features, mode, seed=count)
            found = view.search(query, 700, threads=threads)
            assert (found.ad_ids.tolist(), found.scores.tolist()) == known.best(query, 700)
            alone = view.search(query, 700)
            assert found.slots.tolist() == alone.slots.tolist()
        threads.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_light_query_equals_numpy_in_every_layout(
    catalog: Any, new_index: Any, new_query: Any, layout: Callable[..., None]
) -> None:
    """Few postings take the narrow way, twice to see that it cleans up."""
    known = catalog.drawn(3 * BLOCK_SLOTS // 2, DENSITIES)
    index = new_index(len(DENSITIES))
    index.apply_delivery(known.delivery())
    layout(index, known)
    view = index.publish()
    for seed in range(6):
        query = new_query(3, "sparse", seed)
        found = view.search(query, 300)
        assert (found.ad_ids.tolist(), found.scores.tolist()) == known.best(query, 300)


@pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
@pytest.mark.parametrize("k", [1, 7, 1_000])
def test_equal_scores_come_by_lower_ad_id(catalog: Any, new_index: Any, order: str, k: int) -> None:
    """Thousands of equals overflow the buffer, in every order of arrival."""
    known = catalog.drawn(30_000, [0.5, 0.001])
    known.biases[:] = 0
    known.weights[:] = np.where(known.weights > 0, 255, 0)
    if order != "shuffled":
        known.ad_ids.sort()
    if order == "falling":
        known.ad_ids[:] = known.ad_ids[::-1]
    index = new_index(2)
    index.apply_delivery(known.delivery())
    index.apply(known.batch(slice(None)))
    view = index.publish()
    for features, mode in [([0], "sparse"), ([], "full"), ([0, 1], "full"), ([1], "full")]:
        query = Query(
            feature_ids=np.array(features, np.int32),
            weights=np.ones(len(features), np.float32),
            vector=None,
            embedding_scale=1.0,
            now_ms=5,
            seed=0,
            mode=mode,
        )
        found = view.search(query, k)
        assert (found.ad_ids.tolist(), found.scores.tolist()) == known.best(query, k)


def test_few_eligible_ads_are_all_found(catalog: Any, new_index: Any, new_query: Any) -> None:
    """The worst scores must still be found when nothing better may be served."""
    known = catalog.drawn(20_000, DENSITIES)
    query = new_query(len(DENSITIES), "full")
    known.open[:] = False
    known.open[np.argsort(known.scores(query))[:50]] = True
    index = new_index(len(DENSITIES))
    index.apply_delivery(known.delivery())
    index.apply(known.batch(slice(None)))
    found = index.publish().search(query, 100)
    assert (found.ad_ids.tolist(), found.scores.tolist()) == known.best(query, 100)
    assert len(found) == 50


@pytest.mark.parametrize("layout", LAYOUTS)
def test_filters_and_named_ads_restrict_the_search(
    catalog: Any, new_index: Any, new_query: Any, layout: Callable[..., None]
) -> None:
    known = catalog.drawn(BLOCK_SLOTS + 100, DENSITIES)
    index = new_index(len(DENSITIES))
    index.apply_delivery(known.delivery())
    layout(index, known)
    filters = (
        Rule("f", allow=frozenset({"1", "7", "unheard"}), deny=frozenset({"3", "8"})),
        Rule("f", allow=frozenset({"2", "9"})),
    )
    has = known.weights > 0
    within = known.ad_ids[::3]
    chosen = (has[:, 1] | has[:, 7]) & ~has[:, 3] & ~has[:, 8] & (has[:, 2] | has[:, 9])
    known.open &= chosen & np.isin(known.ad_ids, within)
    view = index.publish()
    for mode in ("sparse", "full"):
        query = new_query(len(DENSITIES), mode, filters=filters)
        found = view.search(query, 100, np.append(within, [-5, 2**62]))
        assert (found.ad_ids.tolist(), found.scores.tolist()) == known.best(query, 100)
        assert len(found) == 100


def test_gather_returns_what_came_with_each_ad(
    catalog: Any, new_index: Any, new_query: Any
) -> None:
    known = catalog.drawn(5_000, DENSITIES)
    index = new_index(len(DENSITIES))
    half_compacted_with_a_tail(index, known)
    view = index.publish()
    found = view.search(new_query(len(DENSITIES), "full"), 1_000)
    payload, bids = view.gather(found.slots)
    assert payload.tolist() == [[ad, -ad] for ad in found.ad_ids.tolist()]
    assert bids.tolist() == [1.0] * 1_000


def test_pacing_takes_its_share_of_requests_and_repeats_with_the_seed(
    catalog: Any, new_index: Any, new_query: Any
) -> None:
    known = catalog.drawn(4_000, [1.0])
    index = new_index(1)
    index.apply(known.batch(slice(None)))
    delivery = known.delivery()
    delivery.active[:] = True
    delivery.pacing[:] = 0.25
    index.apply_delivery(delivery)
    view = index.publish()
    first, again, other = (
        set(view.search(new_query(1, "full", seed), 4_000).ad_ids.tolist()) for seed in (1, 1, 2)
    )
    assert first == again
    assert abs(len(first) - 1_000) < 150
    # Independent draws: a quarter of a quarter.
    assert abs(len(first & other) - 250) < 80


def test_an_ad_naming_a_feature_twice_counts_it_once(new_index: Any, catalog: Any) -> None:
    index = new_index(2)
    known = catalog.drawn(2, [1.0, 0.0])
    batch = known.batch(slice(None))
    doubled = type(batch)(
        **{
            **vars(batch),
            "feature_offsets": np.array([0, 3, 4], np.int32),
            "feature_ids": np.array([0, 1, 0, 0], np.int32),
            "weights": np.array([10, 0, 200, 30], np.uint8),
        }
    )
    index.apply(doubled)
    query = Query(
        feature_ids=np.array([0], np.int32),
        weights=np.ones(1, np.float32),
        vector=None,
        embedding_scale=1.0,
        now_ms=0,
        seed=0,
        mode="sparse",
    )
    for _ in range(2):
        found = index.publish().search(query, 2)
        assert dict(zip(found.ad_ids.tolist(), found.scores.tolist(), strict=True)) == {
            known.ad_ids[0]: 63 * 200,
            known.ad_ids[1]: 63 * 30,
        }
        index.seal()


@pytest.mark.parametrize(
    ("change", "k"),
    [
        ({"weights": np.ones(3, np.float32)}, 1),
        ({"weights": np.array([np.nan], np.float32)}, 1),
        ({"vector": np.ones(3, np.float32)}, 1),
        ({"vector": np.full(8, np.inf, np.float32)}, 1),
        ({"bias_weight": float("inf")}, 1),
        ({"query_bits": 13}, 1),
        ({"query_bits": 0}, 1),
        ({"mode": "dense"}, 1),
        ({}, 0),
    ],
)
def test_a_query_that_does_not_fit_is_refused(
    new_index: Any, new_query: Any, change: dict[str, Any], k: int
) -> None:
    query = new_query(1, "full")
    with pytest.raises(InvalidQuery):
        new_index(1).view.search(Query(**{**vars(query), **change}), k)


def test_an_empty_index_has_no_candidates(new_index: Any, new_query: Any) -> None:
    index = new_index(1)
    for mode in ("sparse", "full"):
        assert len(index.view.search(new_query(1, mode), 5)) == 0


@pytest.mark.parametrize("mode", ["full", "sparse"])
@pytest.mark.parametrize("limit", [1, 3])
def test_a_group_limit_gives_the_best_ads_that_it_allows(
    new_index: Any, catalog: Any, new_query: Any, mode: str, limit: int
) -> None:
    """One group holds all of the best ads, so the answer lies far behind them."""
    known = catalog.drawn(3_000, [0.7, 0.9, 0.4])
    index = new_index(3)
    query = new_query(3, mode)
    ranking, scores = known.best(query, 3_000)
    place = {ad_id: at for at, ad_id in enumerate(ranking)}
    groups = np.array(
        [
            0 if place.get(ad_id, 9_999) < 1_000 else ad_id % 5 - 1
            for ad_id in known.ad_ids.tolist()
        ],
        np.int32,
    )
    batch = known.batch(slice(None))
    index.apply(type(batch)(**{**vars(batch), "groups": groups}))
    index.apply_delivery(known.delivery())
    group_of = dict(zip(known.ad_ids.tolist(), groups.tolist(), strict=True))
    taken: dict[int, int] = {}
    expected = []
    for ad_id, score in zip(ranking, scores, strict=True):
        group = group_of[ad_id]
        taken[group] = taken.get(group, 0) + 1
        if group < 0 or taken[group] <= limit:
            expected.append((ad_id, score))
    for k in (1, 8, 40):
        limited = dataclasses.replace(query, group_limit=limit)
        found = index.publish().search(limited, k)
        assert list(zip(found.ad_ids.tolist(), found.scores.tolist(), strict=True)) == expected[:k]


def test_a_batch_answers_as_its_queries_alone_do(
    new_index: Any, catalog: Any, new_query: Any
) -> None:
    """Queries of all kinds, so that what one leaves behind would show in the next."""
    known = catalog.drawn(2_000, DENSITIES)
    index = new_index(len(DENSITIES))
    in_many_deltas(index, known)
    index.apply_delivery(known.delivery())
    view = index.publish()
    queries = [
        new_query(len(DENSITIES), mode, seed, query_bits=bits, group_limit=limit)
        for seed, (mode, bits, limit) in enumerate(
            [("full", 6, None), ("sparse", 6, None), ("sparse", 12, 2), ("full", 12, 1)] * 3
        )
    ]
    alone = [view.search(query, 50) for query in queries]
    together = view.search_batch(queries, 50)
    for one, other in zip(alone, together, strict=True):
        assert one.ad_ids.tobytes() == other.ad_ids.tobytes()
        assert one.scores.tobytes() == other.scores.tobytes()
        assert one.unit == other.unit
