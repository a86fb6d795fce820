"""The systems that the index is measured beside, each as well as it can be used.

What has no updates of its own gets a small second matrix for the ads since the
first was built, and a mask of those that are no longer current. A system that
is not installed is left out of the run.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import qdrant_edge
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from .workload import FEATURES, PER_AD, SCALE, Ads, K, Weighted

LOAD_ADS = 4_096


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


class Hits(ScipyDelta):
    """A matrix whose product with a query is sparse: only the ads that it touches."""

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        ads, sums = self._hits(self.matrix, query)
        living = ~self.dead[ads]
        young, young_sums = self._hits(self.delta, query)
        ad_ids = np.concatenate((self.ad_ids[ads[living]], self.delta_ids[young]))
        scores = np.concatenate((sums[living], young_sums))
        if len(scores) > K:
            best = np.argpartition(-scores, K)[:K]
            ad_ids, scores = ad_ids[best], scores[best]
        found: NDArray[np.int64] = ad_ids[np.argsort(-scores)]
        return found

    def _hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows of ads and their sums."""
        raise NotImplementedError


class ScipyGemmDelta(Hits):
    """SciPy's product of two sparse matrices."""

    name = "scipy_gemm_delta"

    def _hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        order = np.argsort(query.features)
        entries = (query.weights[order], query.features[order], [0, len(order)])
        product = csr_matrix(entries, (1, FEATURES)) @ matrix
        return product.indices, product.data


class GraphBlas(Hits):
    """SuiteSparse:GraphBLAS, a sparse vector times a sparse matrix, on one thread."""

    name = "graphblas"

    @staticmethod
    def _matrix(ads: Ads) -> Any:
        import graphblas

        graphblas.ss.config["nthreads"] = 1
        rows = ScipyDelta._matrix(ads)
        return graphblas.io.from_scipy_sparse(rows)

    def _hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        import graphblas

        vector = graphblas.Vector.from_coo(query.features, query.weights, size=FEATURES)
        product = vector.vxm(matrix, graphblas.semiring.plus_times).new()
        ads, sums = product.to_coo()
        return ads, sums

    def bits(self) -> float:
        """Bits per posting, by its own account."""
        return 8.0 * int(self.matrix.ss.memory_usage) / int(self.matrix.nvals)


class TorchScipy(ScipyDelta):
    """SciPy for the features, torch's GEMV for the embeddings."""

    name = "torch_scipy"

    def full(self, query: Weighted) -> NDArray[np.int64]:
        import torch

        base, delta = self._scores(query)
        vector = torch.from_numpy(query.vector * np.float32(SCALE))
        base += (torch.from_numpy(self.embeddings) @ vector).numpy()
        delta += (torch.from_numpy(self.delta_embeddings) @ vector).numpy()
        return self._best(base, delta)


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


def installed(module: str) -> bool:
    """Whether a peer's module can be imported."""
    return importlib.util.find_spec(module) is not None
