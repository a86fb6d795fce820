"""The tail: the young end of the index, the only part that is written.

Owns the ads since the last seal, ad by ad, with their features as they came.
A query looks at each of them, so an ad is searchable as soon as a view counts
it. Arrays are only appended to, and replaced when they are full: what a view
counted never changes. When to seal is the index's decision.
"""

from dataclasses import dataclass

import numpy as np

from .arrays import Int32, Int64, UInt8, grown, growth_bytes
from .batch import AdBatch
from .columns import NO_GROUP, AdColumns
from .kernels.cpu.admit import UPSERTED, append
from .postings import Postings
from .shard import Shard, latest_of

# A list of one posting is the worst: feature, bounds, count, place in the buckets, slot, weight.
SEALED_POSTING_BYTES = 20


@dataclass(frozen=True, eq=False)
class TailView:
    """The tail as one view counts it.

    Attributes:
        first_slot: slot of the first ad.
        ads: ads counted; arrays may hold more.
        columns: [>= ads].
        bounds: [>= ads + 1] int64, each ad's range of features.
        features: [...] int32.
        weights: [...] uint8, 255 = 1.0.
    """

    first_slot: int
    ads: int
    columns: AdColumns
    bounds: Int64
    features: Int32
    weights: UInt8

    def find(self, wanted: Int64) -> Int64:
        """[W] int64, the latest slot of each ad id within the tail, or -1."""
        ad_ids = self.columns.ad_ids[: self.ads]
        return latest_of(ad_ids, np.argsort(ad_ids, kind="stable"), wanted)


class Tail:
    """The writer's side of the tail."""

    def __init__(self, first_slot: int, capacity: int, columns: AdColumns) -> None:
        """An empty tail.

        Args:
            first_slot: slot of the first ad to come.
            capacity: ads that are expected.
            columns: room for that many.
        """
        self.first_slot = first_slot
        self.ads = 0
        self._columns = columns
        self._bounds = np.zeros(capacity + 1, np.int64)
        self._features = np.empty(16 * capacity, np.int32)
        self._weights = np.empty(16 * capacity, np.uint8)

    @property
    def next_slot(self) -> int:
        """The slot of the next ad."""
        return self.first_slot + self.ads

    def append(
        self,
        batch: AdBatch,
        outcomes: UInt8,
        versions: Int64,
        targeting: Int32,
        stamps: Int64,
        stamp: int,
    ) -> int:
        """Append the upserted records of a batch.

        Args:
            batch: B records.
            outcomes: [B] uint8, from the directory.
            versions: [upserts] int64.
            targeting: [upserts] int32, numbers of rule sets.
            stamps, stamp: see the kernel `append`; its answer is returned.
        """
        upserted = np.flatnonzero(outcomes == UPSERTED)
        end = self.ads + len(upserted)
        used = int(self._bounds[self.ads])
        self._columns = self._columns.grown(self.ads, end)
        self._bounds = grown(self._bounds, self.ads + 1, end + 1)
        self._features = grown(self._features, used, used + len(batch.feature_ids))
        self._weights = grown(self._weights, used, used + len(batch.feature_ids))
        columns = self._columns
        columns.ad_ids[self.ads : end] = batch.ad_ids[upserted]
        columns.versions[self.ads : end] = versions
        columns.targeting[self.ads : end] = targeting
        columns.groups[self.ads : end] = (
            NO_GROUP if batch.groups is None else batch.groups[upserted]
        )
        columns.embeddings[self.ads : end] = batch.embeddings[upserted]
        columns.payload[self.ads : end] = batch.payload[upserted]
        stamp = append(
            outcomes,
            batch.feature_offsets,
            batch.feature_ids,
            batch.weights,
            self._bounds,
            self._features,
            self._weights,
            self.ads,
            stamps,
            stamp,
        )
        self.ads = end
        return stamp

    def view(self) -> TailView:
        """The tail as it is now."""
        return TailView(
            self.first_slot,
            self.ads,
            self._columns,
            self._bounds,
            self._features,
            self._weights,
        )

    def sealed(self, keep: UInt8, feature_count: int) -> Shard:
        """The tail's ads as a delta shard; dead ones keep slots, not postings.

        Args:
            keep: [ads] uint8, 0 = dead.
            feature_count: features in the dictionary.
        """
        postings = Postings.built(
            self.ads, self._bounds, self._features, self._weights, keep, feature_count
        )
        return Shard("delta", self._columns.copied(self.ads), postings, folded=False)

    def growth_bytes(self, ads: int, features: int) -> int:
        """How many bytes more the tail takes when so many ads and features are appended."""
        used = int(self._bounds[self.ads])
        return (
            self._columns.growth_bytes(self.ads + ads)
            + growth_bytes(self._bounds, self.ads + ads + 1)
            + growth_bytes(self._features, used + features)
            + growth_bytes(self._weights, used + features)
        )

    def sealed_bytes(self, ads: int, features: int) -> int:
        """The most that sealing takes when so many ads and features have been appended."""
        postings = int(self._bounds[self.ads]) + features
        return (self.ads + ads) * self._columns.ad_bytes() + SEALED_POSTING_BYTES * postings

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        own = self._bounds.nbytes + self._features.nbytes + self._weights.nbytes
        return own + self._columns.memory_bytes()
