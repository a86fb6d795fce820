"""Ads by the thousand, and the same search written in NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuindex import AdBatch, DeliveryBatch, Index, IndexSettings, Query
from gpuindex.query import to_integers

WIDTH = 8


@dataclass
class Catalog:
    """Ads as plain arrays; A ads, F features.

    Attributes:
        ad_ids: [A] int64, distinct.
        weights: [A, F] uint8, 0 = feature absent.
        embeddings: [A, WIDTH] int8.
        biases: [A] float32.
        open: [A] bool, whether status lets the ad be served.
    """

    ad_ids: NDArray[np.int64]
    weights: NDArray[np.uint8]
    embeddings: NDArray[np.int8]
    biases: NDArray[np.float32]
    open: NDArray[np.bool_]

    @staticmethod
    def drawn(ads: int, densities: list[float], seed: int = 0) -> "Catalog":
        """Random ads; each feature is on its share of them."""
        random = np.random.default_rng(seed)
        present = random.random((ads, len(densities))) < np.array(densities)
        return Catalog(
            ad_ids=random.permutation(ads).astype(np.int64) * 7 + 3,
            weights=(present * random.integers(1, 256, present.shape)).astype(np.uint8),
            embeddings=random.integers(-128, 128, (ads, WIDTH), dtype=np.int8),
            biases=random.choice([0.0, 0.5, -2.0], ads).astype(np.float32),
            open=random.random(ads) < 0.8,
        )

    def batch(self, rows: slice, version: int = 1) -> AdBatch:
        """Upserts of some of the ads."""
        places = np.nonzero(self.weights[rows])
        sizes = np.count_nonzero(self.weights[rows], axis=1)
        ads = len(sizes)
        return AdBatch(
            ad_ids=self.ad_ids[rows],
            versions=np.full(ads, version, np.int64),
            deleted=np.zeros(ads, np.bool_),
            feature_offsets=np.append(0, np.cumsum(sizes)).astype(np.int32),
            feature_ids=places[1].astype(np.int32),
            weights=self.weights[rows][places],
            embeddings=self.embeddings[rows],
            payload=np.stack([self.ad_ids[rows], -self.ad_ids[rows]], axis=1),
            targeting=[None] * ads,
        )

    def delivery(self) -> DeliveryBatch:
        """The ads' statuses and biases."""
        ads = len(self.ad_ids)
        return DeliveryBatch(
            ad_ids=self.ad_ids,
            versions=np.ones(ads, np.int64),
            reset=np.zeros(ads, np.bool_),
            active=self.open,
            start_ms=np.zeros(ads, np.int64),
            end_ms=np.full(ads, 1_000, np.int64),
            budget_left=np.full(ads, np.inf),
            pacing=np.ones(ads, np.float32),
            bid=np.ones(ads, np.float32),
            bias=self.biases,
        )

    def scores(self, query: Query) -> NDArray[np.int64]:
        """[A] int64, what every ad must score."""
        integers = to_integers(query, self.weights.shape[1], WIDTH)
        by_feature = np.zeros(self.weights.shape[1], np.int64)
        by_feature[integers.features] = integers.weights
        scores = self.weights.astype(np.int64) @ by_feature
        if query.mode == "sparse":
            return scores
        scores *= integers.multiplier
        if len(integers.vector):
            scores += self.embeddings.astype(np.int64) @ integers.vector.astype(np.int64)
        return scores + np.rint(self.biases * np.float32(integers.bias_factor)).astype(np.int64)

    def best(self, query: Query, k: int) -> tuple[list[int], list[int]]:
        """Ad ids and scores of the best open ads."""
        scores = self.scores(query)
        wanted = self.open & (scores > 0) if query.mode == "sparse" else self.open
        rows = np.flatnonzero(wanted)
        rows = rows[np.lexsort((self.ad_ids[rows], -scores[rows]))][:k]
        return self.ad_ids[rows].tolist(), scores[rows].tolist()


@pytest.fixture
def settings(search_device: str) -> IndexSettings:
    return IndexSettings(embedding_width=WIDTH, payload_width=2, device=search_device)


@pytest.fixture
def catalog() -> type[Catalog]:
    return Catalog


@pytest.fixture
def new_index(settings: IndexSettings) -> Callable[[int], Index]:
    """Makes an empty index that knows so many features, `f=0` and on."""

    def made(features: int) -> Index:
        index = Index(settings)
        for feature in range(features):
            index.features.intern(f"f={feature}")
        return index

    return made


@pytest.fixture
def new_query() -> Callable[..., Query]:
    """Makes a query with random weights and vector over features 0..n-1."""

    def made(features: int, mode: str, seed: int = 0, **rest: object) -> Query:
        random = np.random.default_rng(seed)
        return Query(
            feature_ids=np.arange(features, dtype=np.int32),
            weights=random.normal(0.3, 1.0, features).astype(np.float32),
            vector=random.normal(size=WIDTH).astype(np.float32),
            embedding_scale=0.01,
            now_ms=5,
            seed=seed,
            mode=mode,
            **rest,
        )

    return made
