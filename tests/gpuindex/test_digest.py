"""A digest tells whether two indexes hold the same, and nothing else."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings, Rule
from gpuindex.digest import PARTS, AdHashes, ad_hashes

ADS = 700
FIELDS = 9
RULES = [None, (Rule("geo", allow=frozenset({"de", "at"})),), (Rule("geo", deny=frozenset("x")),)]


def batches(index: Index, order: Any) -> tuple[AdBatch, DeliveryBatch]:
    """The same ads and delivery states whatever their order and the features' numbers."""
    random = np.random.default_rng(3)
    present = random.random((ADS, FIELDS)) < 0.7 ** np.arange(FIELDS)
    weights = random.integers(1, 256, (ADS, FIELDS)).astype(np.uint8)
    embeddings = random.integers(-128, 128, (ADS, 4), dtype=np.int8)
    bids = random.random(ADS).astype(np.float32)
    columns = [np.flatnonzero(present[ad]) for ad in order]
    ads = AdBatch(
        ad_ids=order * 3,
        versions=order + 5,
        deleted=np.zeros(len(order), np.bool_),
        feature_offsets=np.cumsum([0, *map(len, columns)]).astype(np.int32),
        feature_ids=np.array(
            [index.features.intern(f"f={f}") for own in columns for f in own], np.int32
        ),
        weights=np.concatenate([weights[ad, own] for ad, own in zip(order, columns, strict=True)]),
        embeddings=embeddings[order],
        payload=np.stack([order, -order], axis=1),
        targeting=[RULES[ad % len(RULES)] for ad in order],
        groups=np.array([index.features.intern(f"advertiser={ad % 7}") for ad in order], np.int32),
    )
    states = DeliveryBatch(
        ad_ids=order * 3,
        versions=order,
        reset=np.zeros(len(order), np.bool_),
        active=order % 5 > 0,
        start_ms=order,
        end_ms=order + 100,
        budget_left=np.where(order % 4, 2.5, 0.0),
        pacing=np.full(len(order), 0.5, np.float32),
        bid=bids[order],
        bias=-bids[order],
    )
    return ads, states


def made(order: Any, *, seal_every: int = 10_000, compact: bool = False) -> Index:
    index = Index(IndexSettings(embedding_width=4, payload_width=2, order_fields=("advertiser",)))
    for begin in range(0, len(order), seal_every):
        ads, states = batches(index, order[begin : begin + seal_every])
        # States first for every second batch: they wait for their ads.
        if begin // seal_every % 2:
            index.apply_delivery(states)
            index.apply(ads)
        else:
            index.apply(ads)
            index.apply_delivery(states)
        if begin + seal_every < len(order):
            index.seal()
    if compact:
        index.start_compaction(0)
        while index.compacting:
            index.maintain()
    return index


def hashes(index: Index) -> AdHashes:
    return ad_hashes(index.publish())


def test_order_numbers_and_shards_change_nothing() -> None:
    straight = hashes(made(np.arange(ADS)))
    mixed = hashes(made(np.random.default_rng(5).permutation(ADS), seal_every=151, compact=True))
    for one, other in zip(vars(straight).values(), vars(mixed).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(straight.states)) == len(np.unique(straight.embeddings)) == ADS


def test_replaced_and_deleted_ads_leave_no_trace() -> None:
    index = made(np.arange(ADS), seal_every=300)
    before = hashes(index)
    more, _ = batches(index, np.arange(40))
    rest = {"ad_ids": more.ad_ids + 1, "versions": np.ones(40, np.int64)}
    index.apply(dataclasses.replace(more, **rest))
    index.publish()
    assert len(hashes(index).ad_ids) == ADS + 40
    empty = np.zeros(41, np.int32)
    index.apply(
        dataclasses.replace(
            more,
            ad_ids=rest["ad_ids"],
            versions=np.full(40, 2),
            deleted=np.ones(40, np.bool_),
            feature_offsets=empty,
            feature_ids=empty[:0],
            weights=more.weights[:0],
            targeting=[None] * 40,
        )
    )
    np.testing.assert_array_equal(hashes(index).states, before.states)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("versions", 10**6),
        ("weights", 1),
        ("payload", 7),
        ("groups", 0),
        ("targeting", [(Rule("geo", allow=frozenset({"de"})),)]),
        ("feature_ids", 8),
    ],
)
def test_any_part_of_an_ad_that_differs_makes_its_hash_differ(column: str, value: Any) -> None:
    same, other = made(np.arange(ADS)), made(np.arange(ADS))
    ad, _ = batches(same, np.array([1]))
    newer = dataclasses.replace(ad, versions=ad.versions + 1)
    same.apply(newer)
    if not isinstance(value, list):
        value = np.full_like(getattr(ad, column), value)
    other.apply(dataclasses.replace(newer, **{column: value}))
    assert np.flatnonzero(hashes(other).states != hashes(same).states).tolist() == [1]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("active", False),
        ("end_ms", 9),
        ("budget_left", -1),
        ("pacing", 0.25),
        ("bid", 8),
        ("bias", 3),
    ],
)
def test_any_part_of_a_delivery_state_that_differs_makes_the_hash_differ(
    column: str, value: float
) -> None:
    index = made(np.arange(ADS))
    before = hashes(index)
    _, state = batches(index, np.array([1]))
    newer = dataclasses.replace(state, versions=state.versions + 1)
    index.apply_delivery(newer)
    np.testing.assert_array_equal(hashes(index).states, before.states)
    other = np.full_like(getattr(state, column), value)
    index.apply_delivery(dataclasses.replace(newer, versions=state.versions + 2, **{column: other}))
    assert np.flatnonzero(hashes(index).states != before.states).tolist() == [1]


def test_parts_point_at_the_ads_that_differ() -> None:
    one = hashes(made(np.arange(ADS)))
    other = hashes(made(np.delete(np.arange(ADS), 123)))
    (part,) = np.flatnonzero(one.by_part(one.states) != other.by_part(other.states))
    assert part == 3 * 123 % PARTS
    listed, known = one.within([part]), other.within([part])
    assert set(listed.ad_ids) - set(known.ad_ids) == {3 * 123}
