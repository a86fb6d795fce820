"""The inverted lists of a shard, each in the encoding that serves it best."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .arrays import Int32, Int64, UInt8
from .kernels.cpu.build import build
from .kernels.cpu.encodings import read

# A feature is looked for among this many, which is a cache line of them.
BUCKET_FEATURES = 16


@dataclass(frozen=True, eq=False)
class Postings:
    """L lists in W words; `kernels.cpu.encodings` says what the words mean.

    Attributes:
        features: [L] int32, ascending.
        starts: [L + 1] int32, each list's range of words.
        codes: [L] uint8, how each list is encoded.
        data: [W] int32.
    """

    features: Int32
    starts: Int32
    codes: UInt8
    data: Int32

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
        return Postings(*build(ads, bounds, features, weights, keep, feature_count))

    @property
    def bucket_shift(self) -> int:
        """See `buckets`."""
        last = int(self.features[-1]) if len(self.features) else 0
        wanted = max(1, len(self.features) // BUCKET_FEATURES)
        shift = 0
        while (last >> shift) + 1 > wanted:
            shift += 1
        return shift

    @cached_property
    def buckets(self) -> Int32:
        """[K + 1] int32, bounds into `features` by `feature >> bucket_shift`."""
        last = int(self.features[-1]) if len(self.features) else 0
        shift = self.bucket_shift
        edges = np.arange((last >> shift) + 2, dtype=np.int64) << shift
        return np.searchsorted(self.features, edges).astype(np.int32)

    def read(self, listed: int, ads: int) -> tuple[Int32, UInt8]:
        """Slots and weights of a list, by its place among the features."""
        slots, weights = read(self.starts, self.data, self.codes, listed, ads)
        return slots, weights

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.features, self.starts, self.codes, self.data, self.buckets)
        return sum(array.nbytes for array in arrays)
