"""The paper's parameter sweep: how block size changes bytes, build and query.

Lists as GPU inverted lists keep them: runs of postings of one list in one block
of ads are a segment, which stores its block, its count and the low bits of each
slot, 1 byte for blocks of up to 256 ads and 2 bytes beyond. With logarithmic
categories a segment has room for the next power of two of its count, which
spares it a pointer: `padded` counts that room. The last row is what the index
itself makes of the same lists, whose encoding is chosen per list.
"""

import time
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from daemon.rows import Rows
from gpuindex.postings import Postings

from . import command
from .workload import FEATURES, Ads, zipf_ads, zipf_query, zipf_shares

ADS = 200_000
QUICK_ADS = 20_000
BLOCK_BITS = (6, 8, 10, 12, 14, 16)
TURNS = 5


@njit(nogil=True)
def segmented(slots: Any, bounds: Any, bits: int) -> Any:
    """Cut lists into segments.

    Args:
        slots: [P] int32, the lists' slots, ascending in each.
        bounds: [F + 1] int64, each feature's range of them.
        bits: a block has 2 ** bits ads.

    Returns:
        list_bounds [F + 1] int64 into segments, blocks [S] int32, begins [S + 1]
        int64 into slots, lows [P] uint16.
    """
    list_bounds = np.zeros(len(bounds), np.int64)
    blocks = np.empty(len(slots), np.int32)
    begins = np.empty(len(slots) + 1, np.int64)
    lows = np.empty(len(slots), np.uint16)
    segments = 0
    for feature in range(len(bounds) - 1):
        last = -1
        for p in range(bounds[feature], bounds[feature + 1]):
            block = slots[p] >> bits
            if block != last:
                blocks[segments] = block
                begins[segments] = p
                segments += 1
                last = block
            lows[p] = slots[p] & ((1 << bits) - 1)
        list_bounds[feature + 1] = segments
    begins[segments] = len(slots)
    return list_bounds, blocks[:segments].copy(), begins[: segments + 1].copy(), lows


@njit(nogil=True)
def summed(
    list_bounds: Any,
    blocks: Any,
    begins: Any,
    lows: Any,
    weights: Any,
    bits: int,
    query: Any,
    sums: Any,
) -> None:
    """Add up a query, one segment after the other; query [Q] int32, sums [A] int32."""
    sums[:] = 0
    for feature in query:
        for segment in range(list_bounds[feature], list_bounds[feature + 1]):
            own = sums[blocks[segment] << bits :]
            for p in range(np.uint64(begins[segment]), np.uint64(begins[segment + 1])):
                own[lows[p]] += 40 * np.int32(weights[p])


def feature_major(ads: Ads) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]]:
    """Slots, bounds and weights of all lists."""
    order = np.argsort(ads.features, kind="stable")
    counts = np.bincount(ads.features, minlength=FEATURES)
    owners = np.repeat(np.arange(len(ads), dtype=np.int32), np.diff(ads.bounds))
    return owners[order], np.append(0, np.cumsum(counts)), ads.weights[order]


def measure(ads_count: int) -> Rows:
    """Bits without weights, and CPU times, by block size."""
    ads = zipf_ads(ads_count, np.random.default_rng(0))
    slots, bounds, weights = feature_major(ads)
    shares, random = zipf_shares(), np.random.default_rng(1)
    asked = [zipf_query(shares, random) for _ in range(TURNS)]
    sums = np.empty(ads_count + (1 << max(BLOCK_BITS)), np.int32)
    rows = Rows()
    print(f"{'ads/block':>10} {'bits':>7} {'padded':>7} {'build s':>8} {'heavy ms':>9}")
    for bits in BLOCK_BITS:
        segmented(slots[:0], np.zeros(1, np.int64), bits)
        started = time.thread_time()
        list_bounds, blocks, begins, lows = segmented(slots, bounds, bits)
        build_s = time.thread_time() - started
        taken = []
        for query in (asked[0], *asked):
            started = time.thread_time()
            summed(list_bounds, blocks, begins, lows, weights, bits, query.features, sums)
            taken.append(time.thread_time() - started)
        counts = np.diff(begins)
        low_bytes = 1 if bits <= 8 else 2
        block_bytes = 2 if ads_count >> bits < 1 << 16 else 4
        headers = (block_bytes + low_bytes) * len(blocks) + 8 * FEATURES
        room = 1 << np.ceil(np.log2(counts)).astype(np.int64)
        exact_bits = 8 * (headers + low_bytes * len(slots)) / len(slots)
        padded_bits = 8 * (headers + low_bytes * int(room.sum())) / len(slots)
        heavy_ms = 1e3 * float(np.median(taken[1:]))
        print(
            f"{1 << bits:>10} {exact_bits:7.2f} {padded_bits:7.2f} {build_s:8.3f} {heavy_ms:9.3f}"
        )
        values = {
            "bits": exact_bits,
            "padded_bits": padded_bits,
            "build_s": build_s,
            "heavy_ms": heavy_ms,
        }
        for axis, value in values.items():
            _add(rows, f"blocks_{axis}/{1 << bits}", value)
    plain = np.full(len(slots), 255, np.uint8)
    keep = np.ones(ads_count, np.uint8)
    started = time.thread_time()
    own = Postings.built(ads_count, ads.bounds, ads.features, plain, keep, FEATURES)
    build_s = time.thread_time() - started
    own_bits = 8 * own.memory_bytes() / len(slots)
    print(f"{'per list':>10} {own_bits:7.2f} {'':7} {build_s:8.3f}")
    _add(rows, "blocks_bits/per_list", own_bits)
    _add(rows, "blocks_build_s/per_list", build_s)
    return rows


def _add(rows: Rows, axis: str, value: float) -> None:
    unit = "bits" if "bits" in axis else axis.split("/")[0].rsplit("_", 1)[1]
    rows.add(axis, value, unit, n=TURNS if unit == "ms" else 1)


def main() -> None:
    """Measure, print, and write the rows."""
    command.main_by_ads("block_sizes", __doc__, measure, ads=ADS, quick_ads=QUICK_ADS)


if __name__ == "__main__":
    main()
