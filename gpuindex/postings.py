"""The inverted lists of a shard, in the encodings that the kernels read.

Two encodings: segments (a list's slots as 16 bits within their block, with the
count of each block) and dense columns (one weight for every slot). A feature
is in exactly one of them. Another encoding is another class here, its fields in
the shard table, and its branch in `locate`.
"""

from dataclasses import dataclass

import numpy as np

from .arrays import Int32, Int64, UInt8, UInt16
from .kernels.cpu.build import build

# Adding a column costs 0.03 ns per ad, scattering a segment 0.4 ns per posting:
# with room for the cache misses of both they meet near one ad in ten.
COLUMN_SHARE = 0.1

# A feature is looked for among this many, which is a cache line of them.
BUCKET_FEATURES = 16


@dataclass(frozen=True, eq=False)
class SegmentLists:
    """L lists of P postings in all, over B blocks.

    Attributes:
        features: [L] int32, ascending.
        bounds: [L + 1] int32, each list's range of postings.
        counts: [L, B] uint16, postings of a list in a block.
        lows: [P] uint16, slots within their block, ascending within it.
        weights: [P] uint8, 255 = 1.0.
        buckets: [K + 1] int32, bounds into `features` by `feature >> shift`.
        shift: see `buckets`.
    """

    features: Int32
    bounds: Int32
    counts: UInt16
    lows: UInt16
    weights: UInt8
    buckets: Int32
    shift: int

    @staticmethod
    def indexed(
        features: Int32, bounds: Int32, counts: UInt16, lows: UInt16, weights: UInt8
    ) -> "SegmentLists":
        """Lists with their buckets."""
        last = int(features[-1]) if len(features) else 0
        wanted = max(1, len(features) // BUCKET_FEATURES)
        shift = 0
        while (last >> shift) + 1 > wanted:
            shift += 1
        edges = np.arange((last >> shift) + 2, dtype=np.int64) << shift
        buckets = np.searchsorted(features, edges).astype(np.int32)
        return SegmentLists(features, bounds, counts, lows, weights, buckets, shift)


@dataclass(frozen=True, eq=False)
class DenseColumns:
    """C columns over A slots.

    Attributes:
        features: [C] int32, ascending.
        weights: [C, A] uint8, 0 = absent.
    """

    features: Int32
    weights: UInt8


@dataclass(frozen=True, eq=False)
class Postings:
    """All lists of a shard."""

    segments: SegmentLists
    columns: DenseColumns

    @staticmethod
    def built(
        ads: int,
        bounds: Int64,
        features: Int32,
        weights: UInt8,
        keep: UInt8,
        feature_count: int,
    ) -> "Postings":
        """Invert ad-major features; arguments as in the kernel `build`."""
        listed, list_bounds, counts, lows, list_weights, column_features, columns = build(
            ads,
            bounds,
            features,
            weights,
            keep,
            feature_count,
            max(1, int(COLUMN_SHARE * ads)),
        )
        return Postings(
            SegmentLists.indexed(listed, list_bounds, counts, lows, list_weights),
            DenseColumns(column_features, columns),
        )

    def count(self) -> int:
        """Postings in all."""
        return len(self.segments.lows) + int(np.count_nonzero(self.columns.weights))

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [*vars(self.segments).values(), *vars(self.columns).values()]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
