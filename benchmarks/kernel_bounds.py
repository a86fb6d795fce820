"""What bounds each kernel of the index, and how far from that bound it is.

Beside each kernel stands the least that its memory traffic takes: a loop that
moves the same bytes in the same pattern and does nothing else, timed in the same
run. `stream` reads an array from front to back; `sums` adds 1 to every score of
a block, which the L2 cache holds; `scatter` adds 1 at ascending slots of a block,
as many as a list has, their 16-bit places read along; `random` reads single
values all over an array. A kernel near its bound can only be made faster by
moving fewer bytes.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from daemon.rows import Rows
from gpuindex import AdBatch, Index, IndexSettings, IndexView
from gpuindex.kernels.cpu import encodings
from gpuindex.kernels.cpu.dense import dense
from gpuindex.kernels.cpu.encodings import BITMAP, BLOCK_SLOTS, DENSE, RAW, U8, U16, WEIGHTED
from gpuindex.kernels.cpu.topk import topk

from . import command
from .encodings import drawn, encoded, query_ns
from .workload import WIDTH, K

ADS = 1_000_000
QUICK_ADS = 100_000
TURNS = 9
LISTS = 32

# Bytes that are not in any cache when they are read again.
STREAM_BYTES = 1 << 27

# The encodings, each at densities at which lists have it.
LISTED = (
    (DENSE | WEIGHTED, 0.3),
    (BITMAP, 0.3),
    (U8 | WEIGHTED, 0.1),
    (U8 | WEIGHTED, 0.02),
    (U8, 0.02),
    (U16 | WEIGHTED, 0.003),
    (RAW | WEIGHTED, 0.00002),
)


@njit(nogil=True)
def _streamed(values: Any) -> Any:
    total = np.int64(0)
    for i in range(np.uint64(len(values))):
        total += values[i]
    return total


@njit(nogil=True)
def _raised(sums: Any) -> None:
    for i in range(np.uint64(len(sums))):
        sums[i] += 1


@njit(nogil=True)
def _scattered(sums: Any, lows: Any) -> None:
    for i in range(np.uint64(len(lows))):
        sums[lows[i]] += 1


@njit(nogil=True)
def _picked(values: Any, places: Any) -> Any:
    total = np.int64(0)
    for i in range(np.uint64(len(places))):
        total += values[places[i]]
    return total


def median_ns(work: Callable[[], Any]) -> float:
    """Median CPU time of a call, after one that compiles."""
    work()
    taken = []
    for _ in range(TURNS):
        started = time.thread_time_ns()
        work()
        taken.append(time.thread_time_ns() - started)
    return float(np.median(taken))


class Machine:
    """What memory does without a kernel: nanoseconds a byte, a slot, a value."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self.byte_ns = self.stream_ns(STREAM_BYTES)
        self._sums = np.zeros(BLOCK_SLOTS, np.int32)
        self.sum_ns = median_ns(partial(_raised, self._sums)) / BLOCK_SLOTS

    def stream_ns(self, size: int) -> float:
        """A byte of an array of so many, from front to back."""
        return median_ns(partial(_streamed, np.ones(size // 8, np.int64))) / size

    def scatter_ns(self, density: float) -> float:
        """A posting of lists of this density in one block."""
        lists = [drawn(BLOCK_SLOTS, density, self._random) for _ in range(LISTS)]
        lows = np.concatenate(lists).astype(np.uint16)
        return median_ns(partial(_scattered, self._sums, lows)) / len(lows)

    def random_ns(self, slots: int) -> float:
        """A value of 4 bytes anywhere in an array of so many."""
        values = np.ones(slots, np.int32)
        places = self._random.integers(0, slots, 1 << 17).astype(np.uint32)
        return median_ns(partial(_picked, values, places)) / len(places)


class Profile:
    """Kernels beside their bounds, printed as they come."""

    def __init__(self) -> None:
        self.rows = Rows()
        print(f"{'kernel':22} {'per':8} {'ns':>8} {'bound':>8} {'of bound':>9}  bounded by")

    def add(self, kernel: str, per: str, taken_ns: float, bound_ns: float, why: str) -> None:
        """A kernel's time and its bound's, for one `per`."""
        print(
            f"{kernel:22} {per:8} {taken_ns:8.3f} {bound_ns:8.3f} {bound_ns / taken_ns:9.0%}  {why}"
        )
        for system, value in (("headwater", taken_ns), ("bound", bound_ns)):
            self.rows.add(f"kernel_{per}_ns/{kernel}", value, "ns", system=system, n=TURNS)


def measure(ads: int) -> Rows:
    """Time every kernel and its bound."""
    machine = Machine()
    print(
        f"a byte from memory, one core: {machine.byte_ns:.4f} ns = {1 / machine.byte_ns:.1f} GB/s"
    )
    profile = Profile()
    _measure_lists(ads, machine, profile)
    view = _indexed(ads)
    _measure_product(view, machine, profile)
    _measure_topk(view, machine, profile)
    return profile.rows


def _measure_lists(ads: int, machine: Machine, profile: Profile) -> None:
    """`score`: lists of every encoding, and a light query."""
    random = np.random.default_rng(0)
    for code, density in LISTED:
        lists = [drawn(ads, density, random) for _ in range(LISTS)]
        postings = encoded(lists, code, ads)
        taken = query_ns(postings, ads)
        encoding = code & encodings.ENCODING_MASK
        name = f"{encodings.NAMES[encoding]}{'' if code & WEIGHTED else ' plain'} {density:.3%}"
        if encoding in (DENSE, BITMAP):
            # Columns are added four at a time, bitmaps one by one.
            sums = machine.sum_ns / (4 if encoding == DENSE else 1)
            read = machine.byte_ns * postings.data.nbytes / LISTS / ads
            profile.add(name, "ad", taken / ads, sums + read, "sums + stream")
            continue
        own = taken * LISTS / sum(map(len, lists))
        if encoding == RAW:
            profile.add(name, "posting", own, machine.random_ns(ads), "random")
        else:
            profile.add(name, "posting", own, machine.scatter_ns(density), "scatter")
    # 200 lists of a light query's mean length: every slot is touched once, then read and reset.
    lists = [drawn(ads, 0.00014, random) for _ in range(200)]
    postings = encoded(lists, U16 | WEIGHTED, ads)
    touched = sum(map(len, lists))
    taken = query_ns(postings, ads, narrow_limit=ads) * len(lists)
    bound = 2 * machine.scatter_ns(touched / ads)
    profile.add("light query", "posting", taken / touched, bound, "scatter, twice")


def _indexed(ads: int) -> IndexView:
    """Ads with embeddings, in one shard."""
    random = np.random.default_rng(2)
    index = Index(IndexSettings(embedding_width=WIDTH, payload_width=0))
    feature = index.features.intern("feature=0")
    index.apply(
        AdBatch(
            ad_ids=random.permutation(ads).astype(np.int64),
            versions=np.ones(ads, np.int64),
            deleted=np.zeros(ads, np.bool_),
            feature_offsets=np.arange(ads + 1, dtype=np.int32),
            feature_ids=np.full(ads, feature, np.int32),
            weights=np.full(ads, 255, np.uint8),
            embeddings=random.integers(-127, 128, (ads, WIDTH), dtype=np.int8),
            payload=np.zeros((ads, 0), np.int64),
            targeting=[None] * ads,
        )
    )
    index.seal()
    return index.publish()


def _measure_product(view: IndexView, machine: Machine, profile: Profile) -> None:
    """`dense`: the embeddings are read once and are larger than any cache."""
    tail, ads = view.tail, view.shards[0].ads
    vector = np.arange(WIDTH, dtype=np.int16)
    scores = np.zeros(view.slots.count, np.int32)
    pages, biases = view.slots.pages, view.slots.pool.biases
    tails = (tail.first_slot, tail.ads, tail.columns.embeddings)
    taken = median_ns(partial(dense, view.table, *tails, vector, 1, 0.0, pages, biases, scores))
    profile.add(f"dense d={WIDTH}", "ad", taken / ads, machine.byte_ns * WIDTH, "stream")


def _measure_topk(view: IndexView, machine: Machine, profile: Profile) -> None:
    """`topk`: looking at every score, and finding the best thousand of them."""
    tail, slots, ads = view.tail, view.slots, view.shards[0].ads
    scores = np.random.default_rng(3).integers(0, 1 << 28, slots.count).astype(np.int32)
    nothing: NDArray[np.int32] = np.zeros(0, np.int32)
    results = (np.empty(K, np.int32), np.empty(K, np.int64), np.empty(K, np.int32))

    def found(least: int) -> None:
        topk(
            view.table,
            tail.first_slot,
            tail.ads,
            tail.columns.ad_ids,
            tail.columns.targeting,
            scores,
            nothing,
            -1,
            least,
            slots.dead,
            view.epoch,
            slots.pages,
            slots.pool.states,
            0,
            0,
            np.ones(1, np.uint8),
            np.zeros(0, np.uint8),
            np.empty(20 * K, np.int64),
            *results,
        )

    read = machine.stream_ns(scores.nbytes) * scores.itemsize
    scanned = median_ns(partial(found, 1 << 29))
    profile.add("topk, none found", "ad", scanned / ads, read, "stream")
    # State, death and ad id of each one found are somewhere in memory.
    tested = 3 * machine.random_ns(ads) * K / ads
    taken = median_ns(partial(found, 1))
    profile.add(f"topk, best {K}", "ad", taken / ads, read + tested, "stream + random")


def main() -> None:
    """Measure, print, and write the rows."""
    command.main_by_ads("kernel_bounds", __doc__, measure, ads=ADS, quick_ads=QUICK_ADS)


if __name__ == "__main__":
    main()
