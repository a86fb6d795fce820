"""The index never takes more memory than it may, and says so before."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from gpuindex import AdBatch, Index, IndexSettings, MemoryBudgetExceeded

DENSITIES = [0.001, 0.02, 0.3, 0.9]


def used(index: Index) -> int:
    """Bytes of the host."""
    return sum(size for part, size in index.memory().items() if not part.startswith("device_"))


def within(settings: IndexSettings, more_bytes: int, **rest: Any) -> Index:
    """An empty index that may take so many bytes more than it does."""
    small = dataclasses.replace(settings, **rest)
    budget = used(Index(small)) + more_bytes
    index = Index(dataclasses.replace(small, memory_budget_bytes=budget))
    for feature in range(len(DENSITIES)):
        index.features.intern(f"f={feature}")
    return index


@pytest.mark.parametrize("size", [7, 90, 700])
@pytest.mark.parametrize("more_bytes", [40_000, 300_000, 1_100_000])
def test_the_budget_is_never_passed_whatever_comes_next(
    settings: IndexSettings, catalog: Any, size: int, more_bytes: int
) -> None:
    """Neither by ads and delivery states, nor by the seals that follow."""
    index = within(settings, more_bytes, seal_ads=500)
    budget = index.settings.memory_budget_bytes
    assert budget is not None
    known = catalog.drawn(20_000, DENSITIES)
    refused = None
    for start in range(0, 20_000, size):
        try:
            index.apply(known.batch(slice(start, start + size)))
        except MemoryBudgetExceeded as error:
            refused = error
            break
        assert used(index) <= budget
        index.publish()
        if index.tail.ads >= 500:
            index.seal()
            assert used(index) <= budget
    assert refused is not None
    assert refused.retriable
    index.seal()
    assert used(index) <= budget


def test_a_refused_batch_leaves_no_trace(settings: IndexSettings, catalog: Any) -> None:
    index = within(settings, 2_000_000)
    known = catalog.drawn(40_000, DENSITIES)
    index.apply(known.batch(slice(0, 5_000)))
    before = index.publish()
    memory = index.memory()
    with pytest.raises(MemoryBudgetExceeded):
        index.apply(known.batch(slice(5_000, None)))
    with pytest.raises(MemoryBudgetExceeded):
        index.apply_delivery(known.delivery())
    assert index.publish().counts() == before.counts()
    assert index.memory() == memory


def test_what_needs_no_room_is_taken_at_the_limit(settings: IndexSettings, catalog: Any) -> None:
    """Pausing and deleting known ads must work exactly when nothing else does."""
    index = within(settings, 0)
    index.settings = dataclasses.replace(index.settings, memory_budget_bytes=None)
    known = catalog.drawn(2_000, DENSITIES)
    index.apply(known.batch(slice(None)))
    index.apply_delivery(known.delivery())
    index.publish()
    index.publish()
    index.settings = dataclasses.replace(index.settings, memory_budget_bytes=used(index))
    with pytest.raises(MemoryBudgetExceeded):
        index.apply(known.batch(slice(0, 1), version=2))
    states = known.delivery()
    states.versions[:] = 2
    states.active[:] = False
    assert index.apply_delivery(states).applied == 2_000
    deletes = known.batch(slice(None), version=3)
    deletes.deleted[:] = True
    assert index.apply(deletes).applied == 2_000


def test_dead_ads_make_room_for_the_batch_that_was_refused(
    settings: IndexSettings, catalog: Any
) -> None:
    """Updates alone can go on for ever: their old versions are folded away when needed."""
    index = within(settings, 1_800_000, seal_ads=2_000, compact_deltas=1_000)
    known = catalog.drawn(3_000, DENSITIES)
    refusals = 0
    for version in range(1, 40):
        batch = known.batch(slice(None), version=version)
        try:
            index.apply(batch)
        except MemoryBudgetExceeded:
            refusals += 1
            while index.maintain():
                pass
            index.publish()
            index.apply(batch)
        assert sum(index.publish().counts().values()) == 3_000
    assert refusals >= 2
    assert index.compactions >= 2
    assert np.all(index.view.find(known.ad_ids) >= 0)


def test_lists_of_one_posting_pass_no_budget_when_they_are_sealed(settings: IndexSettings) -> None:
    """They take more than any others, by the posting."""
    ads, each = 300, 20
    index = Index(dataclasses.replace(settings, seal_ads=ads))
    for feature in range(ads * each):
        index.features.intern(f"own={feature}")
    batch = AdBatch(
        ad_ids=np.arange(ads),
        versions=np.ones(ads, np.int64),
        deleted=np.zeros(ads, np.bool_),
        feature_offsets=np.arange(0, ads * each + 1, each, dtype=np.int32),
        feature_ids=np.arange(ads * each, dtype=np.int32),
        weights=np.full(ads * each, 9, np.uint8),
        embeddings=np.zeros((ads, settings.embedding_width), np.int8),
        payload=np.zeros((ads, settings.payload_width), np.int64),
        targeting=[None] * ads,
    )
    growth = index.tail.sealed_bytes(ads, ads * each)
    index.apply(batch)
    index.seal()
    ((_, shard),) = index.sealed
    assert shard.memory_bytes() <= growth
