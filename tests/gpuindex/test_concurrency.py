"""Readers search while the writer writes, and never see anything half done."""

import threading
import time
from typing import Any

import numpy as np

from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings, Query, Rule

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


def check(index: Index, rounds: list[int]) -> None:
    """One view: all ads, each once, all of one version, in their one flight."""
    before = rounds[-1]
    view = index.view
    versions = {view.describe(ad, 0).version for ad in (0, ADS - 1)}
    assert len(versions) == 1
    version = versions.pop()
    assert version is not None
    assert version >= before
    for mode in ("sparse", "full"):
        found = view.search(query(mode, version), 2 * ADS)
        assert sorted(found.ad_ids.tolist()) == list(range(ADS))
        payload, bids = view.gather(found.slots)
        assert set(payload[:, 0].tolist()) == {version}
        assert set(bids.tolist()) == {float(version)}
        for other in (version - 1, version + 1):
            assert len(view.search(query(mode, other), 5)) == 0
    only = (Rule("version", allow=frozenset({str(version)})),)
    assert len(view.search(query("full", version, filters=only), 2 * ADS)) == ADS


def test_readers_see_every_ad_once_in_one_version_while_all_ads_are_rewritten() -> None:
    index = Index(SETTINGS)
    index.features.intern("every=ad")
    ads = np.arange(ADS)
    rounds = [1]
    index.apply(upserts(index, ads, 1))
    index.apply_delivery(flights(ads, 1))
    index.publish()
    finished = threading.Event()
    failures: list[BaseException] = []
    checks = [0, 0]

    def read(reader: int) -> None:
        while not finished.is_set():
            try:
                check(index, rounds)
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
        order = random.permutation(ads)
        for part in np.array_split(order, 3):
            index.apply(upserts(index, part, version))
            index.maintain()
        index.apply_delivery(flights(order, version))
        index.maintain()
        index.publish()
        rounds.append(version)
    finished.set()
    for reader in readers:
        reader.join(DEADLINE_S)
    if failures:
        raise failures[0]
    assert index.seals > 50
    assert index.compactions > 5


def rewrite(index: Index, ads: np.ndarray, versions: range) -> None:
    """Give every ad a new version and flight, and tidy up, again and again."""
    for version in versions:
        index.apply(upserts(index, ads, version))
        index.apply_delivery(flights(ads, version))
        while index.maintain():
            pass
        index.publish()


def test_a_held_view_answers_the_same_after_everything_was_rewritten() -> None:
    index = Index(SETTINGS)
    index.features.intern("every=ad")
    ads = np.arange(ADS)
    # Until the pool of pages stops growing, so that they are used again.
    rewrite(index, ads, range(1, 40))
    view = index.view
    first = view.search(query("full", 39), ADS)
    assert len(first) == ADS
    rewrite(index, ads, range(40, 80))
    again = view.search(query("full", 39), ADS)
    assert again.ad_ids.tolist() == first.ad_ids.tolist()
    assert again.scores.tolist() == first.scores.tolist()
    assert index.compactions > 3


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
