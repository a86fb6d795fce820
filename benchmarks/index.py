"""Search and update of the index beside two peers that can be installed.

Zipf ads (30 weighted features each, 100,000 features, exponent 1.1), queries of
200 weighted features, exact top 1000. Heavy queries draw their features as ads
do, light ones evenly. Times are CPU time of the threads that a system works on,
with its caches warm: each takes its turns of all queries, while 1,000 ads have
younger versions in a delta. Rows are medians.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import qdrant_edge
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from gpuindex import AdBatch, Index, IndexSettings, Query, warm

FEATURES = 100_000
PER_AD = 30
EXPONENT = 1.1
PER_QUERY = 200
K = 1_000
WIDTH = 128
SCALE = 0.01
LOAD_ADS = 4_096
UPSERTS = 1_000
TURNS = 3

# Share of headwater's candidates that an exact float search must have too; the
# rest is what 6 bits of query weight cost at the cut.
LEAST_OVERLAP = 0.9


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


class System(Protocol):
    """What is measured, by the CPU clock of the threads that it works on."""

    name: str
    clock: Callable[[], float]

    def prepared(self, ads: Ads) -> Any:
        """Ads in the form that `upsert` takes, made before the clock starts."""

    def upsert(self, ads: Any) -> None:
        """Make ads searchable."""

    def tidy(self) -> None:
        """What is done between batches, on nobody's clock."""

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        """Ad ids of the K best by weighted features."""


class Headwater:
    """The index, in the layout that its own maintenance gives it."""

    name = "headwater"
    clock = staticmethod(time.thread_time)

    def __init__(self, ads: Ads) -> None:
        settings = IndexSettings(embedding_width=WIDTH, payload_width=1)
        warm(settings)
        self.index = Index(settings)
        self.version = 1
        for feature in range(FEATURES):
            self.index.features.intern(f"feature={feature}")
        for start in range(0, len(ads.ad_ids), LOAD_ADS):
            self.upsert(self.prepared(ads, slice(start, start + LOAD_ADS)))
            self.tidy()

    def prepared(self, ads: Ads, rows: slice = slice(None)) -> AdBatch:
        """Ads as the intake hands them over: decoded and embedded."""
        self.version += 1
        ad_ids = ads.ad_ids[rows]
        count = len(ad_ids)
        return AdBatch(
            ad_ids=ad_ids,
            versions=np.full(count, self.version, np.int64),
            deleted=np.zeros(count, np.bool_),
            feature_offsets=np.arange(0, PER_AD * count + 1, PER_AD, dtype=np.int32),
            feature_ids=ads.features[rows].ravel(),
            weights=ads.weights[rows].ravel(),
            embeddings=ads.embeddings[rows],
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

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        return self.search(query, mode="sparse")

    def full(self, query: Weighted) -> NDArray[np.int64]:
        return self.search(query, mode="full")

    def search(self, query: Weighted, mode: Any) -> NDArray[np.int64]:
        asked = Query(
            feature_ids=query.features,
            weights=query.weights,
            vector=query.vector,
            embedding_scale=SCALE,
            now_ms=0,
            seed=0,
            mode=mode,
        )
        return self.index.view.search(asked, K).ad_ids

    def bits(self) -> float:
        """Bits per posting of the sealed shards, weights and pointers included."""
        shards = self.index.view.shards
        total = PER_AD * sum(shard.ads for shard in shards)
        return 8 * sum(shard.postings.memory_bytes() for shard in shards) / total


class ScipyDelta:
    """A feature-major matrix, and a small one for the ads since it was built."""

    name = "scipy_delta"
    clock = staticmethod(time.thread_time)

    def __init__(self, ads: Ads) -> None:
        self.ad_ids = ads.ad_ids
        self.matrix = self._matrix(ads)
        self.embeddings = ads.embeddings.astype(np.float32)
        self.dead = np.zeros(len(ads.ad_ids), np.bool_)
        self.delta_ids = ads.ad_ids[:0]
        self.delta = self._matrix(Ads(ads.ad_ids[:0], np.random.default_rng(0)))
        self.delta_embeddings = self.embeddings[:0]

    @staticmethod
    def _matrix(ads: Ads) -> csr_matrix:
        rows = np.arange(0, PER_AD * len(ads.ad_ids) + 1, PER_AD)
        values = ads.weights.ravel().astype(np.float32) / 255
        shape = (len(ads.ad_ids), FEATURES)
        return csr_matrix((values, ads.features.ravel(), rows), shape).T.tocsr()

    def prepared(self, ads: Ads) -> Ads:
        return ads

    def tidy(self) -> None:
        """The delta is replaced each time, as if the matrix had been rebuilt."""

    def upsert(self, ads: Ads) -> None:
        # Ad ids are row numbers here, which spares the peer a lookup.
        self.dead[:] = False
        self.dead[ads.ad_ids] = True
        self.delta_ids = ads.ad_ids
        self.delta = self._matrix(ads)
        self.delta_embeddings = ads.embeddings.astype(np.float32)

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        return self._best(*self._scores(query))

    def full(self, query: Weighted) -> NDArray[np.int64]:
        base, delta = self._scores(query)
        vector = query.vector * np.float32(SCALE)
        base += self.embeddings @ vector
        delta += self.delta_embeddings @ vector
        return self._best(base, delta)

    def _scores(self, query: Weighted) -> tuple[Any, Any]:
        base = self.matrix[query.features].T @ query.weights
        return base, self.delta[query.features].T @ query.weights

    def _best(self, base: Any, delta: Any) -> NDArray[np.int64]:
        base[self.dead] = -np.inf
        scores = np.concatenate((base, delta))
        best = np.argpartition(-scores, K)[:K]
        best = best[np.argsort(-scores[best])]
        return np.concatenate((self.ad_ids, self.delta_ids))[best]

    def bits(self) -> float:
        """Bits per posting, values as float32."""
        arrays = (self.matrix.data, self.matrix.indices, self.matrix.indptr)
        return 8.0 * sum(int(array.nbytes) for array in arrays) / int(self.matrix.nnz)


class QdrantEdge:
    """Qdrant Edge, its sparse index in memory and its segments merged."""

    name = "qdrant_edge"
    clock = staticmethod(time.process_time)
    vector = "features"

    def __init__(self, ads: Ads, folder: Path) -> None:
        config = qdrant_edge.EdgeConfig(
            sparse_vectors={self.vector: qdrant_edge.EdgeSparseVectorParams(on_disk=False)},
            max_search_threads=1,
        )
        self.shard = qdrant_edge.EdgeShard.create(str(folder), config)
        for start in range(0, len(ads.ad_ids), LOAD_ADS):
            self.upsert(self.prepared(ads, slice(start, start + LOAD_ADS)))
        self.shard.optimize()

    def prepared(self, ads: Ads, rows: slice = slice(None)) -> Any:
        """The operation that upserts ads, made beforehand."""
        weights = ads.weights[rows].astype(np.float32) / 255
        points = [
            qdrant_edge.Point(ad_id, {self.vector: qdrant_edge.SparseVector(features, values)}, {})
            for ad_id, features, values in zip(
                ads.ad_ids[rows].tolist(),
                ads.features[rows].tolist(),
                weights.tolist(),
                strict=True,
            )
        ]
        return qdrant_edge.UpdateOperation.upsert_points(points)

    def upsert(self, operation: Any) -> None:
        self.shard.update(operation)

    def tidy(self) -> None:
        """Its segments are merged once, after loading."""

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        vector = qdrant_edge.SparseVector(query.features.tolist(), query.weights.tolist())
        request = qdrant_edge.QueryRequest(
            limit=K,
            query=qdrant_edge.Query.Nearest(vector, using=self.vector),
            with_vector=False,
            with_payload=False,
        )
        return np.array([point.id for point in self.shard.query(request)], np.int64)


class Rows:
    """Observations by axis and system, in the order of their first."""

    def __init__(self) -> None:
        self._observed: dict[tuple[str, str], list[float]] = {}

    def add(self, axis: str, system: System, value: float) -> None:
        self._observed.setdefault((axis, system.name), []).append(value)

    def clocked(self, axis: str, system: System, work: Callable[[], Any]) -> Any:
        """Let a system do some work and add the CPU milliseconds that it took."""
        started = system.clock()
        result = work()
        self.add(axis, system, (system.clock() - started) * 1e3)
        return result

    def rows(self) -> list[dict[str, Any]]:
        """Rows as CONTRACT says: medians with their standard errors."""
        return [
            {
                "axis": axis,
                "system": system,
                "value": float(np.median(values)),
                "unit": "ms" if axis.endswith("_ms") else "bits",
                "spread": _median_error(values),
                "n": len(values),
            }
            for (axis, system), values in self._observed.items()
        ]


def _median_error(values: list[float]) -> float | None:
    """The standard error of a median, from the absolute deviations from it."""
    if len(values) < 2:
        return None
    deviation = 1.4826 * float(np.median(np.abs(np.array(values) - np.median(values))))
    return 1.2533 * deviation / float(np.sqrt(len(values)))


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


def measure(ads_count: int, repeats: int) -> list[dict[str, Any]]:
    """Build all systems, then let them take turns."""
    random = np.random.default_rng(0)
    ads = Ads(np.arange(ads_count), random)
    rows = Rows()
    with TemporaryDirectory() as folder:
        headwater, scipy_delta = Headwater(ads), ScipyDelta(ads)
        qdrant = QdrantEdge(ads, Path(folder) / "qdrant")
        systems: list[System] = [headwater, scipy_delta, qdrant]
        # Younger versions of some ads, which every query has to find.
        young = Ads(random.choice(ads_count, UPSERTS, replace=False), random)
        for system in systems:
            system.upsert(system.prepared(young))
        for kind, asked in queries(repeats, random).items():
            for turn in range(TURNS):
                found = {}
                for system in systems[turn:] + systems[:turn]:
                    found[system] = [
                        rows.clocked(f"sparse_{kind}_ms", system, partial(system.sparse, query))
                        for query in asked
                    ]
                for system in (headwater, qdrant):
                    for own, exact in zip(found[system], found[scipy_delta], strict=True):
                        _compare(own, exact)
        heavy = queries(repeats, random)["heavy"]
        for _ in range(TURNS):
            for dense in (headwater, scipy_delta):
                for query in heavy:
                    rows.clocked("full_heavy_ms", dense, partial(dense.full, query))
        _measure_upserts(systems, ads_count, repeats, rows, random)
        rows.add("bits_per_posting_weighted", headwater, headwater.bits())
        rows.add("bits_per_posting_weighted", scipy_delta, scipy_delta.bits())
        qdrant.shard.close()
    return rows.rows()


def _measure_upserts(
    systems: list[System],
    ads_count: int,
    repeats: int,
    rows: Rows,
    random: np.random.Generator,
) -> None:
    """The same new versions for all, from decoded to searchable."""
    for axis, count in (("upsert_1000_ms", UPSERTS), ("upsert_one_ms", 1)):
        young = [
            Ads(random.choice(ads_count, count, replace=False), random) for _ in range(repeats)
        ]
        for system in systems:
            for ads in young:
                rows.clocked(axis, system, partial(system.upsert, system.prepared(ads)))
                system.tidy()


def _compare(found: NDArray[np.int64], exact: NDArray[np.int64]) -> None:
    overlap = len(np.intersect1d(found, exact)) / max(1, min(len(found), len(exact)))
    if overlap < LEAST_OVERLAP:
        raise SystemExit(f"the systems disagree: {overlap:.3f} of the candidates are shared")


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows, each peer as a multiple of headwater."""
    own = {row["axis"]: row["value"] for row in rows if row["system"] == Headwater.name}
    for row in rows:
        spread = "" if row["spread"] is None else f" +- {row['spread']:.3f}"
        print(
            f"{row['axis']:28} {row['system']:12} {row['value'] / own[row['axis']]:8.2f}x "
            f"{row['value']:10.3f}{spread} {row['unit']}"
        )


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--ads", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=30, help="queries and upserts of each kind")
    options = parser.parse_args()
    rows = measure(options.ads, options.repeats)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
