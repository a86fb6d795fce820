"""The workload of the index benchmark: Zipf ads and weighted queries.

30 weighted features an ad out of 100,000, exponent 1.1; queries of 200 weighted
features. Heavy queries draw their features as ads do, light ones evenly.
"""

import numpy as np
from numpy.typing import NDArray

FEATURES = 100_000
PER_AD = 30
EXPONENT = 1.1
PER_QUERY = 200
K = 1_000
WIDTH = 128
SCALE = 0.01


class Ads:
    """Random ads of the workload, A of them.

    Attributes:
        ad_ids: [A] int64.
        features: [A, PER_AD] int32, distinct within a row.
        weights: [A, PER_AD] uint8.
        embeddings: [A, WIDTH] int8.
    """

    def __init__(self, ad_ids: NDArray[np.int64], random: np.random.Generator) -> None:
        self.ad_ids = ad_ids
        self.features = _distinct(len(ad_ids), PER_AD, random)
        self.weights = random.integers(1, 256, self.features.shape, dtype=np.uint8)
        self.embeddings = random.integers(-127, 128, (len(ad_ids), WIDTH), dtype=np.int8)


def _shares() -> NDArray[np.float64]:
    shares = np.power(np.arange(1, FEATURES + 1, dtype=np.float64), -EXPONENT)
    return np.divide(shares, shares.sum())


def _distinct(rows: int, count: int, random: np.random.Generator) -> NDArray[np.int32]:
    """[rows, count] int32, Zipf draws, repeated ones within a row drawn again."""
    edges = np.cumsum(_shares())
    drawn = np.searchsorted(edges, random.random((rows, count))).clip(0, FEATURES - 1)
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


class Weighted:
    """A query: features [PER_QUERY] int32, weights float32, vector [WIDTH] float32."""

    def __init__(self, features: NDArray[np.int32], random: np.random.Generator) -> None:
        self.features = features
        self.weights = random.uniform(0.02, 1.0, len(features)).astype(np.float32)
        self.vector = random.normal(size=WIDTH).astype(np.float32)


def queries(count: int, random: np.random.Generator) -> dict[str, list[Weighted]]:
    """Heavy and light queries."""
    return {
        "heavy": [
            Weighted(
                random.choice(FEATURES, PER_QUERY, replace=False, p=_shares()).astype(np.int32),
                random,
            )
            for _ in range(count)
        ],
        "light": [
            Weighted(random.choice(FEATURES, PER_QUERY, replace=False).astype(np.int32), random)
            for _ in range(count)
        ],
    }
