"""The systems that the index is measured beside, each as well as it can be used.

What has no updates of its own gets a small second matrix for the ads since the
first was built, and leaves out those that are no longer current. All are on one
thread and score in float32.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import qdrant_edge
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from .workload import Ads, K, Weighted, Workload

LOAD_ADS = 4_096

# Fewer postings than this share of the ads are worth a sparse result.
SPARSE_SHARE = 1 / 16

# One score in so many is looked at to guess the K-th best.
SAMPLE_STEP = 64


class System(Protocol):
    """What is measured, by the CPU time that it takes."""

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


def best_of(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """[K] places of the highest scores, or of all, highest first.

    A threshold that about 4 K scores should pass is guessed from a sample, which
    takes a tenth of the time of a partition of all of them.
    """
    passing = np.arange(len(scores))
    if len(scores) > 16 * K:
        sample = scores[::SAMPLE_STEP]
        rank = len(sample) - 4 * K // SAMPLE_STEP
        above = np.flatnonzero(scores > np.partition(sample, rank)[rank])
        if len(above) >= K:
            passing = above
    of_passing = scores[passing]
    best = np.argpartition(-of_passing, K)[:K] if len(passing) > K else np.arange(len(passing))
    return passing[best[np.argsort(-of_passing[best])]]


class ScipyDelta:
    """A feature-major matrix, and a small one for the ads since it was built.

    Attributes:
        matrix: of the ads as loaded.
        delta: of the younger ones.
        delta_ids: the ids of the younger ones, which are rows of the first too.
    """

    name = "scipy_delta"
    clock = staticmethod(time.process_time)

    def __init__(self, workload: Workload) -> None:
        self.features = len(workload.keys)
        self.scale = np.float32(workload.embedding_scale)
        self.ads = len(workload.ads)
        self.matrix = self.built(workload.ads)
        self.embeddings = workload.ads.embeddings.astype(np.float32)
        self.replaced = np.zeros(self.ads, np.bool_)
        self.delta_ids = workload.ads.ad_ids[:0]
        self.delta = self.built(workload.ads.part(slice(0)))
        self.delta_embeddings = self.embeddings[:0]

    def built(self, ads: Ads) -> Any:
        """The matrix of some ads, features by ads."""
        values = ads.weights.astype(np.float32) / 255
        ad_major = csr_matrix((values, ads.features, ads.bounds), (len(ads), self.features))
        return ad_major.T.tocsr()

    def prepared(self, ads: Ads) -> Ads:
        return ads

    def tidy(self) -> None:
        """The delta is replaced each time, as if the matrix had been rebuilt."""

    def upsert(self, ads: Ads) -> None:
        self.replaced[self.delta_ids] = False
        self.replaced[ads.ad_ids] = True
        self.delta_ids = ads.ad_ids
        self.delta = self.built(ads)
        self.delta_embeddings = ads.embeddings.astype(np.float32)

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        return self.best(*self.scores(query))

    def full(self, query: Weighted) -> NDArray[np.int64]:
        """Ad ids of the K best by weighted features and embeddings."""
        base, delta = self.scores(query)
        vector = query.vector * self.scale
        base += self.embeddings @ vector
        delta += self.delta_embeddings @ vector
        return self.best(base, delta)

    def scores(self, query: Weighted) -> tuple[Any, Any]:
        """Scores of the ads as loaded, whatever became of them, and of the younger ones."""
        base = self.matrix[query.features].T @ query.weights
        return base, self.delta[query.features].T @ query.weights

    def best(self, base: Any, delta: Any) -> NDArray[np.int64]:
        """Ad ids of the K best; `base` is written to."""
        base[self.delta_ids] = -np.inf
        best = best_of(np.concatenate((base, delta)))
        young = best >= self.ads
        best[young] = self.delta_ids[best[young] - self.ads]
        return best

    def bits(self) -> float:
        """Bits per posting, values as float32."""
        arrays = (self.matrix.data, self.matrix.indices, self.matrix.indptr)
        return 8.0 * sum(int(array.nbytes) for array in arrays) / int(self.matrix.nnz)


class Hits(ScipyDelta):
    """A matrix whose product with a query is sparse: only the ads that it touches."""

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        ads, sums = self.hits(self.matrix, query)
        current = ~self.replaced[ads]
        young, young_sums = self.hits(self.delta, query)
        ad_ids = np.concatenate((ads[current], self.delta_ids[young]))
        found: NDArray[np.int64] = ad_ids[best_of(np.concatenate((sums[current], young_sums)))]
        return found

    def hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        """Columns that a query touches, and their sums."""
        raise NotImplementedError

    def row(self, query: Weighted) -> csr_matrix:
        """A query as a matrix of one row."""
        order = np.argsort(query.features)
        entries = (query.weights[order], query.features[order], [0, len(order)])
        return csr_matrix(entries, (1, self.features))


class ScipyGemmDelta(Hits):
    """SciPy's product of two sparse matrices."""

    name = "scipy_gemm_delta"

    def hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        product = self.row(query) @ matrix
        return product.indices, product.data


class Mkl(Hits):
    """MKL's product of two sparse matrices, into a dense row where that is faster."""

    name = "mkl"

    def __init__(self, workload: Workload) -> None:
        # The wrapper looks for the library by this name alone.
        os.environ.setdefault("MKL_RT", str(next(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))))
        import sparse_dot_mkl

        sparse_dot_mkl.mkl_set_num_threads(1)
        self._product = sparse_dot_mkl.dot_product_mkl
        super().__init__(workload)

    def sparse(self, query: Weighted) -> NDArray[np.int64]:
        bounds = self.matrix.indptr
        postings = int((bounds[query.features + 1] - bounds[query.features]).sum())
        if postings < SPARSE_SHARE * self.ads:
            return super().sparse(query)
        row = self.row(query)
        base, delta = (
            self._product(row, each, dense=True).ravel() for each in (self.matrix, self.delta)
        )
        return self.best(base, delta)

    def hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        product = self._product(self.row(query), matrix)
        return product.indices, product.data


class GraphBlas(Hits):
    """SuiteSparse:GraphBLAS, a sparse vector times a sparse matrix."""

    name = "graphblas"

    def built(self, ads: Ads) -> Any:
        import graphblas

        graphblas.ss.config["nthreads"] = 1
        return graphblas.io.from_scipy_sparse(super().built(ads))

    def hits(self, matrix: Any, query: Weighted) -> tuple[NDArray[Any], NDArray[Any]]:
        import graphblas

        vector = graphblas.Vector.from_coo(query.features, query.weights, size=self.features)
        product = vector.vxm(matrix, graphblas.semiring.plus_times).new()
        ads, sums = product.to_coo(sort=False)
        return ads.astype(np.int64), sums

    def bits(self) -> float:
        """Bits per posting, by its own account."""
        return 8.0 * int(self.matrix.ss.memory_usage) / int(self.matrix.nvals)


class TorchScipy:
    """SciPy for the features, torch's GEMV for the embeddings."""

    name = "torch_scipy"
    clock = staticmethod(time.process_time)

    def __init__(self, scipy: ScipyDelta) -> None:
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._scipy = scipy
        self._embeddings = torch.from_numpy(scipy.embeddings)

    def full(self, query: Weighted) -> NDArray[np.int64]:
        """Ad ids of the K best by weighted features and embeddings."""
        base, delta = self._scipy.scores(query)
        vector = self._torch.from_numpy(query.vector * self._scipy.scale)
        base += (self._embeddings @ vector).numpy()
        delta += (self._torch.from_numpy(self._scipy.delta_embeddings) @ vector).numpy()
        return self._scipy.best(base, delta)


class QdrantEdge:
    """Qdrant Edge, its sparse index in memory and its segments merged."""

    name = "qdrant_edge"
    clock = staticmethod(time.process_time)
    vector = "features"

    def __init__(self, workload: Workload, folder: Path) -> None:
        config = qdrant_edge.EdgeConfig(
            sparse_vectors={self.vector: qdrant_edge.EdgeSparseVectorParams(on_disk=False)},
            max_search_threads=1,
        )
        self.shard = qdrant_edge.EdgeShard.create(str(folder), config)
        for start in range(0, len(workload.ads), LOAD_ADS):
            self.upsert(self.prepared(workload.ads.part(slice(start, start + LOAD_ADS))))
        self.shard.optimize()

    def prepared(self, ads: Ads) -> Any:
        """The operation that upserts ads, made beforehand."""
        weights = ads.weights.astype(np.float32) / 255
        points = []
        for row, ad_id in enumerate(ads.ad_ids.tolist()):
            own = slice(ads.bounds[row], ads.bounds[row + 1])
            sparse = qdrant_edge.SparseVector(ads.features[own].tolist(), weights[own].tolist())
            points.append(qdrant_edge.Point(ad_id, {self.vector: sparse}, {}))
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
