"""The workload of the index benchmark: ads, and weighted queries of them.

Zipf ads have 30 weighted features out of 100,000, exponent 1.1; queries have
200 weighted features. Heavy queries draw theirs as ads do, light ones evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = 100_000
PER_AD = 30
EXPONENT = 1.1
PER_QUERY = 200
K = 1_000
WIDTH = 128
SCALE = 0.01
FULL_WEIGHT = 255


@dataclass(frozen=True, eq=False)
class Ads:
    """A ads and their features, ad by ad.

    Attributes:
        ad_ids: [A] int64.
        bounds: [A + 1] int64, each ad's range of what follows.
        features: [P] int32, distinct within an ad.
        weights: [P] uint8, none 0.
        embeddings: [A, width] int8.
    """

    ad_ids: NDArray[np.int64]
    bounds: NDArray[np.int64]
    features: NDArray[np.int32]
    weights: NDArray[np.uint8]
    embeddings: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ad_ids)

    def part(self, rows: slice) -> Ads:
        """Neighbouring ads."""
        begin, end, _ = rows.indices(len(self))
        own = slice(self.bounds[begin], self.bounds[end])
        return Ads(
            self.ad_ids[begin:end],
            self.bounds[begin : end + 1] - self.bounds[begin],
            self.features[own],
            self.weights[own],
            self.embeddings[begin:end],
        )

    def likened(self, ad_ids: NDArray[np.int64], rows: NDArray[np.int64]) -> Ads:
        """Ads with ids of their own, each as the one in the row given."""
        counts = np.diff(self.bounds)[rows]
        bounds = np.append(0, np.cumsum(counts))
        places = np.arange(bounds[-1]) + np.repeat(self.bounds[rows] - bounds[:-1], counts)
        return Ads(
            ad_ids, bounds, self.features[places], self.weights[places], self.embeddings[rows]
        )

    def unweighted(self) -> Ads:
        """The same ads, every feature with the full weight."""
        full = np.full_like(self.weights, FULL_WEIGHT)
        return Ads(self.ad_ids, self.bounds, self.features, full, self.embeddings)


@dataclass(frozen=True, eq=False)
class Weighted:
    """A query: features [Q] int32, weights [Q] float32, vector [width] float32."""

    features: NDArray[np.int32]
    weights: NDArray[np.float32]
    vector: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Workload:
    """What every system is given.

    Attributes:
        ads: numbered from 0, so that an ad's id is its row.
        keys: of the features, in the order of their numbers.
        queries: by what the axes of their times end in.
        embedding_scale: what 1 in an embedding stands for.
    """

    ads: Ads
    keys: Sequence[str]
    queries: Mapping[str, Sequence[Weighted]]
    embedding_scale: float

    def young(self, count: int, random: np.random.Generator) -> Ads:
        """New versions of some ads: each becomes what another one is."""
        ad_ids, rows = (random.choice(len(self.ads), count, replace=False) for _ in range(2))
        return self.ads.likened(ad_ids, rows)


def zipf(ads_count: int, queries_count: int, random: np.random.Generator) -> Workload:
    """The workload described above, with queries of positive and of signed weights."""

    def asked(shares: NDArray[np.float64] | None, *, signed: bool) -> list[Weighted]:
        return [zipf_query(shares, random, signed=signed) for _ in range(queries_count)]

    as_ads_do = zipf_shares()
    return Workload(
        ads=zipf_ads(ads_count, random),
        keys=[f"feature={feature}" for feature in range(FEATURES)],
        queries={
            "heavy_ms": asked(as_ads_do, signed=False),
            "light_ms": asked(None, signed=False),
            "heavy_ms/signed": asked(as_ads_do, signed=True),
            "light_ms/signed": asked(None, signed=True),
        },
        embedding_scale=SCALE,
    )


def zipf_ads(count: int, random: np.random.Generator) -> Ads:
    """Random ads."""
    features = _distinct(count, random)
    return Ads(
        ad_ids=np.arange(count),
        bounds=np.arange(0, PER_AD * count + 1, PER_AD),
        features=features.ravel(),
        weights=random.integers(1, 256, features.size, dtype=np.uint8),
        embeddings=random.integers(-127, 128, (count, WIDTH), dtype=np.int8),
    )


def zipf_query(
    shares: NDArray[np.float64] | None, random: np.random.Generator, *, signed: bool = False
) -> Weighted:
    """A random query; its features by their shares, or evenly."""
    weights = random.uniform(0.02, 1.0, PER_QUERY)
    if signed:
        weights *= random.choice([-1, 1], PER_QUERY)
    return Weighted(
        features=random.choice(FEATURES, PER_QUERY, replace=False, p=shares).astype(np.int32),
        weights=weights.astype(np.float32),
        vector=random.normal(size=WIDTH).astype(np.float32),
    )


def zipf_shares() -> NDArray[np.float64]:
    """[FEATURES] float64, how often ads draw each feature."""
    shares = np.power(np.arange(1, FEATURES + 1, dtype=np.float64), -EXPONENT)
    normalised: NDArray[np.float64] = shares / shares.sum()
    return normalised


def _distinct(rows: int, random: np.random.Generator) -> NDArray[np.int32]:
    """[rows, PER_AD] int32, Zipf draws, repeated ones within a row drawn again."""
    edges = np.cumsum(zipf_shares())
    drawn = np.searchsorted(edges, random.random((rows, PER_AD))).clip(0, FEATURES - 1)
    while True:
        order = np.argsort(drawn, axis=1, kind="stable")
        ranked = np.take_along_axis(drawn, order, axis=1)
        repeated = np.zeros(drawn.shape, np.bool_)
        again = np.diff(ranked, axis=1, prepend=-1) == 0
        np.put_along_axis(repeated, order, again, axis=1)
        count_again = np.count_nonzero(repeated)
        if count_again == 0:
            return drawn.astype(np.int32)
        redrawn = np.searchsorted(edges, random.random(count_again))
        drawn[repeated] = redrawn.clip(0, FEATURES - 1)
