"""What the writer accepts, remembers, refuses and tidies up."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from gpuindex import AdBatch, Index, IndexSettings, InvalidBatch, warm
from gpuindex.compaction import choose
from gpuindex.directory import FORGET_ROWS
from gpuindex.kernels.cpu import (
    admit,
    build,
    compact,
    deliver,
    dense,
    encodings,
    mark,
    score,
    topk,
)

ADS = 2 * FORGET_ROWS


class Clock:
    """A clock that the test moves."""

    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def deletes(ad_ids: np.ndarray, versions: np.ndarray, like: AdBatch) -> AdBatch:
    count = len(ad_ids)
    return AdBatch(
        ad_ids=ad_ids,
        versions=versions,
        deleted=np.ones(count, np.bool_),
        feature_offsets=np.zeros(count + 1, np.int32),
        feature_ids=np.zeros(0, np.int32),
        weights=np.zeros(0, np.uint8),
        embeddings=np.zeros((count, like.embeddings.shape[1]), np.int8),
        payload=np.zeros((count, like.payload.shape[1]), np.int64),
        targeting=[None] * count,
    )


def test_a_deleted_version_is_remembered_for_its_time_and_then_forgotten(
    settings: IndexSettings, catalog: Any
) -> None:
    clock = Clock()
    index = Index(settings, clock)
    index.features.intern("f=0")
    known = catalog.drawn(ADS, [0.5])
    index.apply(known.batch(slice(None), version=5))
    # Half of the ads have a delivery state, which has to outlive the version.
    delivery = known.delivery()
    half = {name: column[: ADS // 2] for name, column in vars(delivery).items()}
    index.apply_delivery(type(delivery)(**half))
    batch = known.batch(slice(None), version=5)
    gone = deletes(known.ad_ids, np.full(ADS, 7), batch)
    assert index.apply(gone).applied == ADS
    clock.now_ms += settings.deleted_memory_ms
    index.maintain()
    assert index.apply(known.batch(slice(None), version=7)).applied == 0
    clock.now_ms += settings.deleted_memory_ms // 10
    index.maintain()
    assert index.directory.count == ADS // 2
    assert index.apply(known.batch(slice(None), version=1)).applied == ADS
    view = index.publish()
    states = [view.describe(ad, 5) for ad in known.ad_ids.tolist()]
    expected = [bool(is_open) or row >= ADS // 2 for row, is_open in enumerate(known.open)]
    assert [state.eligible for state in states] == expected


def test_a_delivery_state_touches_neither_postings_nor_slots(
    new_index: Any, catalog: Any, new_query: Any
) -> None:
    """It shuts ads out of the next view all the same."""
    index = new_index(2)
    known = catalog.drawn(900, [0.5, 0.9])
    index.apply(known.batch(slice(0, 600)))
    index.seal()
    index.apply(known.batch(slice(600, None)))
    before = index.publish()
    stored = [bytes(array) for shard in before.shards for array in shard.tensors().values()]
    assert index.apply_delivery(known.delivery()).applied == 900
    after = index.publish()
    assert all(new is old for new, old in zip(after.shards, before.shards, strict=True))
    assert stored == [bytes(each) for shard in after.shards for each in shard.tensors().values()]
    np.testing.assert_array_equal(after.table, before.table)
    assert (after.tail.first_slot, after.tail.ads) == (before.tail.first_slot, before.tail.ads)
    found = after.search(new_query(2, "full"), 900)
    assert sorted(found.ad_ids.tolist()) == sorted(known.ad_ids[known.open].tolist())
    assert len(before.search(new_query(2, "full"), 900)) == 900


def test_a_delete_without_a_version_is_one_past_the_known_one(new_index: Any, catalog: Any) -> None:
    index = new_index(1)
    known = catalog.drawn(1, [1.0])
    unversioned = deletes(known.ad_ids, np.array([-1]), known.batch(slice(None)))
    assert index.apply(unversioned).skipped == 1
    index.apply(known.batch(slice(None), version=4))
    assert index.apply(unversioned).applied == 1
    assert index.apply(known.batch(slice(None), version=5)).skipped == 1
    assert index.apply(known.batch(slice(None), version=6)).applied == 1


def test_ids_that_collide_in_the_table_stay_apart(new_index: Any, catalog: Any) -> None:
    """Multiples of the table's size, where a plain modulus would pile up."""
    index = new_index(1)
    known = catalog.drawn(30_000, [0.1])
    known.ad_ids[:] = np.arange(30_000) << 40
    for rows in (slice(0, 10), slice(10, 20_000), slice(20_000, None)):
        index.apply(known.batch(rows))
    rows = index.directory.find(known.ad_ids)
    assert rows.tolist() == list(range(30_000))
    assert index.directory.find(known.ad_ids + 1).max() == -1


def changed(batch: AdBatch, **columns: Any) -> AdBatch:
    return AdBatch(**{**vars(batch), **columns})


@pytest.mark.parametrize(
    "columns",
    [
        {"ad_ids": np.array([1, -2, 3])},
        {"ad_ids": np.array([1, 2])},
        {"versions": np.ones(3, np.int32)},
        {"feature_ids": np.array([0, 1, 2], np.int32)},
        {"feature_ids": np.array([0, 1, -1], np.int32)},
        {"feature_offsets": np.array([0, 2, 1, 3], np.int32)},
        {"feature_offsets": np.array([0, 1, 2, 2], np.int32)},
        {"feature_offsets": np.array([1, 1, 2, 3], np.int32)},
        {"embeddings": np.zeros((3, 9), np.int8)},
        {"payload": np.zeros((3, 1), np.int64)},
        {"targeting": [None]},
    ],
)
def test_a_batch_that_does_not_fit_is_refused_whole(
    new_index: Any, catalog: Any, columns: dict[str, Any]
) -> None:
    index = new_index(2)
    sound = catalog.drawn(3, [1.0, 0.0]).batch(slice(None))
    with pytest.raises(InvalidBatch):
        index.apply(changed(sound, **columns))
    assert sum(index.publish().counts().values()) == 0
    assert index.apply(sound).applied == 3


@pytest.mark.parametrize("column", ["budget_left", "pacing", "bid", "bias"])
def test_a_delivery_state_that_is_not_a_number_is_refused(
    new_index: Any, catalog: Any, column: str
) -> None:
    delivery = catalog.drawn(3, [1.0]).delivery()
    getattr(delivery, column)[1] = np.nan
    with pytest.raises(InvalidBatch, match=column):
        new_index(1).apply_delivery(delivery)


def test_maintenance_comes_to_rest_with_few_shards_and_few_rewrites(catalog: Any) -> None:
    """Both logarithmic: 200 seals end in few shards, each ad folded few times."""
    index = Index(IndexSettings(8, 2, seal_ads=100, compact_deltas=4))
    index.features.intern("f=0")
    known = catalog.drawn(20_000, [0.5])
    compactions = rewritten = most = 0
    for start in range(0, 20_000, 100):
        index.apply(known.batch(slice(start, start + 100)))
        while index.maintain():
            pass
        most = max(most, len(index.sealed))
        if index.compactions > compactions:
            compactions = index.compactions
            rewritten += index.sealed[-1][1].ads
    assert index.maintain() is False
    assert index.seals == 200
    assert compactions == 50
    assert most <= 3 + np.log2(50)
    assert rewritten <= 20_000 * np.log2(50)
    assert index.sealed[0][1].kind == "base"
    assert index.publish().counts()["base"] > 10_000


@pytest.mark.parametrize(
    ("ads", "young", "first"),
    [
        ([], 0, None),
        ([100], 1, None),
        ([100, 10], 1, None),
        ([10, 10], 2, 0),
        ([80, 10, 10], 2, 1),
        ([79, 10, 10], 2, 0),
        ([400, 79, 10, 10], 2, 1),
        ([300, 79, 10, 10], 2, 0),
        ([80, 10, 10, 10], 3, 0),
    ],
)
def test_compaction_takes_neighbours_less_than_four_times_what_it_folds(
    new_index: Any, catalog: Any, ads: list[int], young: int, first: int | None
) -> None:
    shards = []
    for place, count in enumerate(ads):
        index = new_index(1)
        index.apply(catalog.drawn(count, [0.5]).batch(slice(None)))
        index.seal()
        shard = index.sealed[0][1]
        shards.append(dataclasses.replace(shard, folded=place < len(ads) - young))
    assert choose(shards, 2) == first


def test_compaction_puts_ads_of_one_advertiser_side_by_side(
    settings: IndexSettings, catalog: Any
) -> None:
    """By advertiser, then by category, then as they came; without either, last."""
    index = Index(settings)
    for key in ("category=x", "advertiser=a", "category=y", "advertiser=b", "kind=z"):
        index.features.intern(key)
    known = catalog.drawn(400, [0.4, 0.4, 0.4, 0.4, 0.5])
    index.apply(known.batch(slice(None, 250)))
    index.seal()
    index.apply(known.batch(slice(250, None)))
    index.seal()
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    has = known.weights > 0
    # The greater number where an ad has two.
    advertiser = np.where(has[:, 3], 1, np.where(has[:, 1], 0, 2))
    category = np.where(has[:, 2], 1, np.where(has[:, 0], 0, 2))
    expected = known.ad_ids[np.lexsort((category, advertiser))]
    assert index.sealed[0][1].columns.ad_ids.tolist() == expected.tolist()


def test_reordered_ads_take_fewer_bytes(settings: IndexSettings, catalog: Any) -> None:
    """Every advertiser's ads have features that no one else's have."""
    ads, advertisers = 20_000, 400
    index = Index(settings)
    for number in range(advertisers):
        index.features.intern(f"advertiser={number}")
    known = catalog.drawn(ads, [0.0] * advertisers)
    known.weights[np.arange(ads), np.random.default_rng(0).integers(0, advertisers, ads)] = 255
    index.apply(known.batch(slice(None)))
    index.seal()
    before = index.sealed[0][1].postings
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    after = index.sealed[0][1].postings
    assert 8 * after.memory_bytes() / ads < 11
    assert 8 * before.memory_bytes() / ads > 16


def test_kernels_have_the_one_signature_that_is_written_down() -> None:
    """Another argument type would compile in the middle of a request."""
    warm(IndexSettings(0, 0))
    warm(IndexSettings(16, 3))
    kernels = [
        admit.admit,
        admit.append,
        admit.find,
        admit.find_or_add,
        build.build,
        compact.carried,
        compact.fold,
        compact.label,
        compact.sort_by_label,
        encodings.read,
        deliver.deliver,
        deliver.supersede,
        dense.dense,
        mark.mark,
        score.most_postings,
        score.score,
        topk.topk,
    ]
    for each in kernels:
        assert len(each.signatures) == 1
        assert each.targetoptions["nogil"]
