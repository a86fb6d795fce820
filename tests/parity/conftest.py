"""The kernel operations of one side, and made-up ads to run them on.

`--twins` picks the side: the CPU's operations, the CUDA ones in the simulator,
or the CUDA ones on a GPU. Every side must give what NumPy gives, bit for bit,
and so what the others give.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cuda_simulator.launch import Schedule
from numpy.typing import NDArray
from simulated_gpu import SimulatedGpu

from gpuindex.columns import AdColumns
from gpuindex.kernels.cpu import build as cpu_build
from gpuindex.kernels.cpu import compact as cpu_compact
from gpuindex.kernels.cpu import dense as cpu_dense
from gpuindex.kernels.cpu import mark as cpu_mark
from gpuindex.kernels.cpu import score as cpu_score
from gpuindex.kernels.cpu import topk as cpu_topk
from gpuindex.kernels.cuda import build as cuda_build
from gpuindex.kernels.cuda import compact as cuda_compact
from gpuindex.kernels.cuda import dense as cuda_dense
from gpuindex.kernels.cuda import device
from gpuindex.kernels.cuda import mark as cuda_mark
from gpuindex.kernels.cuda import score as cuda_score
from gpuindex.kernels.cuda import topk as cuda_topk
from gpuindex.postings import Postings
from gpuindex.shard import Shard, shard_table

Array = NDArray[Any]


@dataclass(frozen=True)
class Twins:
    """The operations of one side, and its way to and from the host.

    Attributes:
        put: a copy of a NumPy array in the side's memory.
        get: back again.
        address: of an array in the side's memory.
    """

    build: Callable[..., Any]
    score: Callable[..., Any]
    dense: Callable[..., Any]
    topk: Callable[..., Any]
    fold: Callable[..., Any]
    label: Callable[..., Any]
    sort_by_label: Callable[..., Any]
    mark: Callable[..., Any]
    put: Callable[[Array], Any]
    get: Callable[[Any], Array]
    address: Callable[[Any], int]

    def table(self, placed: Sequence[tuple[int, Shard]]) -> tuple[Any, list[Any]]:
        """The shard table of shards at first slots, and the arrays it points at."""
        table = shard_table(list(placed))
        held = []
        for row, (_, shard) in zip(table, placed, strict=True):
            for field, array in shard.table_arrays().items():
                held.append(self.put(array))
                row[field] = self.address(held[-1])
        return self.put(table), held


CUDA_OPERATIONS = {
    "build": cuda_build.build,
    "score": cuda_score.score,
    "dense": cuda_dense.dense,
    "topk": cuda_topk.topk,
    "fold": cuda_compact.fold,
    "label": cuda_compact.label,
    "sort_by_label": cuda_compact.sort_by_label,
    "mark": cuda_mark.mark,
}
CPU_OPERATIONS = {
    "build": cpu_build.build,
    "score": cpu_score.score,
    "dense": cpu_dense.dense,
    "topk": cpu_topk.topk,
    "fold": cpu_compact.fold,
    "label": cpu_compact.label,
    "sort_by_label": cpu_compact.sort_by_label,
    "mark": cpu_mark.mark,
}


def on_gpu() -> Twins:
    gpu = device.Gpu()
    device.use(gpu)
    return Twins(**CUDA_OPERATIONS, put=gpu.put, get=gpu.get, address=gpu.address)


def in_simulator(schedule: Schedule) -> Twins:
    simulated = SimulatedGpu(schedule)
    device.use(simulated)
    return Twins(
        **CUDA_OPERATIONS,
        put=simulated.put,
        get=lambda array: array,
        address=simulated.address,
    )


@pytest.fixture
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    """The side that this run is about."""
    side = request.config.getoption("--twins")
    before = device.current()
    if side == "cpu":
        yield Twins(
            **CPU_OPERATIONS,
            put=np.copy,
            get=lambda array: array,
            address=lambda array: array.ctypes.data,
        )
    elif side == "simulator":
        yield in_simulator(Schedule("random", seed=1, interruptions=0.01))
    else:
        request.getfixturevalue("search_device")
        yield on_gpu()
    device.use(before)


@pytest.fixture
def cpu_operations() -> dict[str, Any]:
    return CPU_OPERATIONS


@pytest.fixture
def cuda_operations() -> dict[str, Any]:
    return CUDA_OPERATIONS


@pytest.fixture
def scheduled_twins() -> Iterator[Callable[..., Twins]]:
    """The CUDA side in the simulator, with an order of threads of one's choice."""
    before = device.current()
    yield lambda order, seed: in_simulator(Schedule(order, seed, interruptions=0.02))
    device.use(before)


@dataclass(frozen=True)
class Ads:
    """Ads by slot with their features, ad-major; A ads, F features.

    Attributes:
        bounds: [A + 1] int64.
        features: [P] int32.
        weights: [P] uint8.
        matrix: [A, F] int64, the same as a table of weights.
    """

    bounds: NDArray[np.int64]
    features: NDArray[np.int32]
    weights: NDArray[np.uint8]
    matrix: NDArray[np.int64]

    @staticmethod
    def drawn(ads: int, densities: Sequence[float], seed: int = 0) -> "Ads":
        """Random ads; each feature is on its share of them."""
        random = np.random.default_rng(seed)
        present = random.random((ads, len(densities))) < np.array(densities)
        return Ads.of(present * random.integers(1, 256, present.shape))

    @staticmethod
    def in_every_encoding(ads: int = 2_000, seed: int = 0) -> "Ads":
        """Ads whose lists are encoded in every way, with and without weights."""
        shares = np.array([0.0007, 0.003, 0.008, 0.03, 0.4])
        random = np.random.default_rng(seed)
        densities = np.concatenate((shares, shares))
        present = random.random((ads, len(densities))) < densities
        weights = random.integers(1, 256, present.shape)
        weights[:, len(shares) :] = 255
        # A U8 list with a gap that takes steps.
        long_gap = np.zeros((ads, 1), np.int64)
        long_gap[: ads // 20] = long_gap[-1:] = 255
        return Ads.of(np.hstack((present * weights, long_gap)))

    @staticmethod
    def of(matrix: NDArray[np.int64]) -> "Ads":
        """Ads with the weights of a table, their features in random order."""
        random = np.random.default_rng(1)
        rows = [random.permutation(np.flatnonzero(row)) for row in matrix]
        sizes = [len(row) for row in rows]
        features = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int32)
        owners = np.repeat(np.arange(len(matrix)), sizes)
        return Ads(
            bounds=np.append(0, np.cumsum(sizes)).astype(np.int64),
            features=features,
            weights=matrix[owners, features].astype(np.uint8),
            matrix=np.asarray(matrix, np.int64),
        )

    def __len__(self) -> int:
        return len(self.matrix)

    def shard(self, columns: AdColumns | None = None) -> Shard:
        """A sealed shard of them."""
        ads = len(self)
        if columns is None:
            columns = AdColumns.empty(ads, 0, 0)
        postings = Postings.built(
            ads,
            self.bounds,
            self.features,
            self.weights,
            np.ones(ads, np.uint8),
            self.matrix.shape[1],
        )
        return Shard("delta", columns, postings, folded=False)


@pytest.fixture
def ads() -> type[Ads]:
    return Ads
