"""Readers search while the writer writes, and never see anything half done."""

import dataclasses
import threading
import time
from typing import Any

import numpy as np
import pytest

from gpuindex import (
    AdBatch,
    DeliveryBatch,
    Index,
    IndexSettings,
    IndexView,
    Query,
    Rule,
)

ADS = 400
DEADLINE_S = 60.0
ROUNDS = 120
SETTINGS = IndexSettings(embedding_width=4, payload_width=1, seal_ads=300, compact_deltas=3)


def upserts(index: Index, ads: np.ndarray, version: int) -> AdBatch:
    """Each ad's version is in its payload, its embedding and its features."""
    feature = index.features.intern(f"version={version}")
    return AdBatch(
        ad_ids=ads,
        versions=np.full(len(ads), version, np.int64),
        deleted=np.zeros(len(ads), np.bool_),
        feature_offsets=np.arange(0, 2 * len(ads) + 1, 2, dtype=np.int32),
        feature_ids=np.tile(np.array([0, feature], np.int32), len(ads)),
        weights=np.full(2 * len(ads), 255, np.uint8),
        embeddings=np.full((len(ads), 4), version % 100, np.int8),
        payload=np.full((len(ads), 1), version, np.int64),
        targeting=[None] * len(ads),
    )


def flights(ads: np.ndarray, version: int) -> DeliveryBatch:
    """A flight of one millisecond, at the version's time: never two at once."""
    count = len(ads)
    return DeliveryBatch(
        ad_ids=ads,
        versions=np.full(count, version, np.int64),
        reset=np.zeros(count, np.bool_),
        active=np.ones(count, np.bool_),
        start_ms=np.full(count, version, np.int64),
        end_ms=np.full(count, version + 1, np.int64),
        budget_left=np.full(count, np.inf),
        pacing=np.ones(count, np.float32),
        bid=np.full(count, version, np.float32),
        bias=np.zeros(count, np.float32),
    )


def query(mode: str, now_ms: int, **rest: Any) -> Query:
    return Query(
        feature_ids=np.zeros(1, np.int32),
        weights=np.ones(1, np.float32),
        vector=np.ones(4, np.float32),
        embedding_scale=0.01,
        now_ms=now_ms,
        seed=0,
        mode=mode,
        **rest,
    )


def check(view: IndexView, *, rewritten: bool) -> int:
    """One view: all ads, each once, in one version and one flight; which."""
    slots = view.find(np.arange(ADS)).astype(np.int32)
    assert slots.min() >= 0
    payload, bids = view.gather(slots)
    assert len(set(bids.tolist())) == 1
    flight = int(bids[0])
    version = flight if rewritten else 1
    assert set(payload[:, 0].tolist()) == {version}
    only = (Rule("version", allow=frozenset({str(version)})),)
    for mode in ("sparse", "full"):
        found = view.search(query(mode, flight, filters=only), 2 * ADS)
        assert sorted(found.ad_ids.tolist()) == list(range(ADS))
        for other in (flight - 1, flight + 1):
            assert len(view.search(query(mode, other), 5)) == 0
    return flight


def rewrite(index: Index, order: np.ndarray, version: int, *, rewritten: bool) -> None:
    """Give every ad a new flight, and a new version too, in several batches."""
    for part in np.array_split(order, 3):
        if rewritten:
            index.apply(upserts(index, part, version))
        index.apply_delivery(flights(part, version))
        index.maintain()
    index.publish()


@pytest.fixture
def index(search_device: str) -> Index:
    """Every ad in its first version and flight."""
    index = Index(dataclasses.replace(SETTINGS, device=search_device))
    index.features.intern("every=ad")
    index.apply(upserts(index, np.arange(ADS), 1))
    index.apply_delivery(flights(np.arange(ADS), 1))
    index.publish()
    return index


@pytest.mark.parametrize("rewritten", [True, False], ids=["ads", "flights"])
def test_readers_see_every_ad_once_in_one_state_while_all_are_rewritten(
    index: Index, rewritten: bool
) -> None:
    finished = threading.Event()
    failures: list[BaseException] = []
    checks = [0, 0]

    def read(reader: int) -> None:
        latest = 1
        while not finished.is_set():
            try:
                flight = check(index.view, rewritten=rewritten)
                assert flight >= latest
                latest = flight
                checks[reader] += 1
            except BaseException as failure:
                failures.append(failure)
                return

    readers = [threading.Thread(target=read, args=(reader,)) for reader in range(2)]
    for reader in readers:
        reader.start()
    random = np.random.default_rng(0)
    deadline = time.monotonic() + DEADLINE_S
    version = 1
    # Both: enough writing to seal and compact often, and enough reading of it.
    while (version < ROUNDS or min(checks) < ROUNDS // 4) and not failures:
        assert time.monotonic() < deadline
        version += 1
        rewrite(index, random.permutation(ADS), version, rewritten=rewritten)
    finished.set()
    for reader in readers:
        reader.join(DEADLINE_S)
    if failures:
        raise failures[0]
    if rewritten:
        assert index.seals > 50
        assert index.compactions > 5


def test_readers_never_see_a_deleted_ad_nor_miss_the_one_that_came_with_the_deletion(
    search_device: str,
) -> None:
    """Half of the ads at a time: each publication deletes one half and brings the other back."""
    index = Index(dataclasses.replace(SETTINGS, device=search_device))
    index.features.intern("every=ad")
    halves = np.array_split(np.arange(ADS), 2)
    index.apply(upserts(index, halves[0], 2))
    index.publish()
    finished = threading.Event()
    failures: list[BaseException] = []
    checks = [0, 0]

    def read(reader: int) -> None:
        while not finished.is_set():
            try:
                view = index.view
                for mode in ("sparse", "full"):
                    found = view.search(query(mode, 0), 2 * ADS)
                    payload, _ = view.gather(found.slots)
                    (version,) = set(payload[:, 0].tolist())
                    assert sorted(found.ad_ids.tolist()) == halves[version % 2].tolist()
                    assert (view.find(halves[1 - version % 2]) < 0).all()
                checks[reader] += 1
            except BaseException as failure:
                failures.append(failure)
                return

    readers = [threading.Thread(target=read, args=(reader,)) for reader in range(2)]
    for reader in readers:
        reader.start()
    random = np.random.default_rng(0)
    deadline = time.monotonic() + DEADLINE_S
    version = 2
    while (version < ROUNDS or min(checks) < ROUNDS // 4) and not failures:
        assert time.monotonic() < deadline
        version += 1
        coming, going = halves[version % 2], halves[1 - version % 2]
        for part in np.array_split(random.permutation(coming), 2):
            index.apply(upserts(index, part, version))
            index.maintain()
        gone = upserts(index, going, version)
        gone.deleted[:] = True
        index.apply(gone)
        index.maintain()
        index.publish()
    finished.set()
    for reader in readers:
        reader.join(DEADLINE_S)
    if failures:
        raise failures[0]
    assert index.compactions > 5


@pytest.mark.parametrize("rewritten", [True, False], ids=["ads", "flights"])
def test_a_held_view_answers_the_same_after_everything_was_rewritten(
    index: Index, rewritten: bool
) -> None:
    ads = np.arange(ADS)
    # Until the pool of pages stops growing, so that they are used again.
    for version in range(2, 40):
        rewrite(index, ads, version, rewritten=rewritten)
    view = index.view
    assert check(view, rewritten=rewritten) == 39
    for version in range(40, 80):
        rewrite(index, ads, version, rewritten=rewritten)
        assert check(view, rewritten=rewritten) == 39


def test_pages_of_forgotten_views_are_used_again() -> None:
    """Delivery states rewritten for ever take a bounded pool of pages."""
    index = Index(SETTINGS)
    index.features.intern("every=ad")
    ads = np.arange(ADS)
    index.apply(upserts(index, ads, 1))
    index.publish()
    sizes = []
    for version in range(2, 60):
        index.apply_delivery(flights(ads, version))
        index.publish()
        sizes.append(index.memory()["slots"])
    assert max(sizes) == sizes[2]
