"""Headwater's index as one of the systems that are measured.

Loaded and tidied as the worker's intake does it, with a delivery state for
every ad, so that a search has a status, a flight, a budget and a pacing to test.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings, Query, SearchThreads, warm

from .observations import OWN
from .peers import LOAD_ADS
from .workload import Ads, K, Weighted, Workload

NOW_MS = 1_000
END_MS = 2_000

ORDER_FIELDS = ("advertiser", "category")


class OwnIndex:
    """The index, in the layout that its own maintenance gives it."""

    name = OWN
    clock = staticmethod(time.process_time)

    def __init__(self, workload: Workload, order_fields: Sequence[str] = ORDER_FIELDS) -> None:
        width = workload.ads.embeddings.shape[1]
        settings = IndexSettings(
            embedding_width=width, payload_width=1, order_fields=tuple(order_fields)
        )
        warm(settings)
        self.index = Index(settings)
        self.version = 1
        self._scale = workload.embedding_scale
        self._bounds = workload.ads.bounds
        for key in workload.keys:
            self.index.features.intern(key)
        for start in range(0, len(workload.ads), LOAD_ADS):
            ads = workload.ads.part(slice(start, start + LOAD_ADS))
            self.index.apply_delivery(_delivery(ads.ad_ids))
            self.upsert(self.prepared(ads))
            self.tidy()

    def prepared(self, ads: Ads) -> AdBatch:
        """Ads as the intake hands them over: decoded and embedded."""
        self.version += 1
        count = len(ads)
        return AdBatch(
            ad_ids=ads.ad_ids,
            versions=np.full(count, self.version, np.int64),
            deleted=np.zeros(count, np.bool_),
            feature_offsets=ads.bounds.astype(np.int32),
            feature_ids=ads.features,
            weights=ads.weights,
            embeddings=ads.embeddings,
            payload=np.zeros((count, 1), np.int64),
            targeting=[None] * count,
        )

    def tidy(self) -> None:
        """Seal and fold, as the intake does between batches."""
        while self.index.maintain():
            pass
        self.index.publish()

    def upsert(self, ads: AdBatch) -> None:
        self.index.apply(ads)
        self.index.publish()

    def sparse(self, query: Weighted, threads: SearchThreads | None = None) -> NDArray[np.int64]:
        return self._search(query, "sparse", threads)

    def full(self, query: Weighted) -> NDArray[np.int64]:
        """Ad ids of the K best by weighted features, embeddings and bias."""
        return self._search(query, "full")

    def _search(
        self,
        query: Weighted,
        mode: Literal["full", "sparse"],
        threads: SearchThreads | None = None,
    ) -> NDArray[np.int64]:
        asked = Query(
            feature_ids=query.features,
            weights=query.weights,
            vector=query.vector,
            embedding_scale=self._scale,
            now_ms=NOW_MS,
            seed=0,
            mode=mode,
        )
        return self.index.view.search(asked, K, threads=threads).ad_ids

    def bits(self) -> float:
        """Bits per posting of the sealed shards as loaded, pointers included."""
        shards = self.index.view.shards
        # The last few of the ads are still in the tail.
        postings = int(self._bounds[sum(shard.ads for shard in shards)])
        return 8 * sum(shard.postings.memory_bytes() for shard in shards) / postings


def _delivery(ad_ids: NDArray[np.int64]) -> DeliveryBatch:
    """States of ads that may all be served, and have to be tested for it."""
    count = len(ad_ids)
    return DeliveryBatch(
        ad_ids=ad_ids,
        versions=np.ones(count, np.int64),
        reset=np.zeros(count, np.bool_),
        active=np.ones(count, np.bool_),
        start_ms=np.zeros(count, np.int64),
        end_ms=np.full(count, END_MS, np.int64),
        budget_left=np.full(count, 100.0),
        pacing=np.ones(count, np.float32),
        bid=np.ones(count, np.float32),
        bias=np.zeros(count, np.float32),
    )
