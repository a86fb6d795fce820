"""Sealed shards: postings and columns of a run of slots, never changed again.

A delta shard is a sealed tail, or several of them folded; the base shard is
what folding everything gave. Both are the same thing at different sizes. What
does change about a slot, its death and its delivery state, is in `slots`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .arrays import Int64
from .columns import AdColumns
from .kernels.cpu import shards
from .postings import Postings

LIST_FIELDS = ("features", "starts", "codes", "data")
COLUMN_FIELDS = ("ad_ids", "versions", "targeting", "groups", "embeddings", "payload")

ShardKind = Literal["base", "delta", "tail"]


def latest_of(ad_ids: Int64, order: Int64, wanted: Int64) -> Int64:
    """The last place of each wanted ad id, or -1.

    Args:
        ad_ids: [A] int64.
        order: [A] int64, a stable sort of them.
        wanted: [W] int64.

    Returns:
        [W] int64.
    """
    if len(ad_ids) == 0:
        return np.full(len(wanted), -1, np.int64)
    places = np.searchsorted(ad_ids, wanted, side="right", sorter=order) - 1
    found = order[np.maximum(places, 0)]
    return np.where((places >= 0) & (ad_ids[found] == wanted), found, -1)


@dataclass(frozen=True, eq=False)
class Shard:
    """A sealed shard; its slots are numbered from 0, wherever a view puts it.

    `folded` tells the outcome of a compaction from a sealed tail.
    """

    kind: ShardKind
    columns: AdColumns
    postings: Postings
    folded: bool

    @property
    def ads(self) -> int:
        """Slots, dead ones included."""
        return len(self.columns.ad_ids)

    @cached_property
    def order(self) -> Int64:
        """[ads] int64, slots by ad id, older versions first."""
        return np.argsort(self.columns.ad_ids, kind="stable")

    def find(self, wanted: Int64) -> Int64:
        """[W] int64, the latest slot of each ad id, or -1."""
        return latest_of(self.columns.ad_ids, self.order, wanted)

    def table_arrays(self) -> dict[int, NDArray[Any]]:
        """The arrays whose addresses the shard table holds, by its field."""
        return {
            shards.AD_IDS: self.columns.ad_ids,
            shards.TARGETING: self.columns.targeting,
            shards.EMBEDDINGS: self.columns.embeddings,
            shards.FEATURES: self.postings.features,
            shards.BUCKETS: self.postings.buckets,
            shards.STARTS: self.postings.starts,
            shards.CODES: self.postings.codes,
            shards.DATA: self.postings.data,
        }

    def table_row(self, first_slot: int) -> Int64:
        """[FIELDS] int64, the shard's row of the shard table.

        It holds addresses: whoever keeps the row keeps the shard.
        """
        row = np.zeros(shards.FIELDS, np.int64)
        row[shards.FIRST_SLOT] = first_slot
        row[shards.ADS] = self.ads
        row[shards.SHARD_ADS] = self.ads
        row[shards.WIDTH] = self.columns.embeddings.shape[1]
        row[shards.LISTS] = len(self.postings.features)
        row[shards.BUCKET_SHIFT] = self.postings.bucket_shift
        row[shards.BUCKET_COUNT] = len(self.postings.buckets) - 1
        for field, array in self.table_arrays().items():
            row[field] = array.ctypes.data
        return row

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The shard's arrays by name, for a file."""
        return {
            **{name: getattr(self.columns, name) for name in COLUMN_FIELDS},
            **{f"list_{name}": getattr(self.postings, name) for name in LIST_FIELDS},
        }

    @staticmethod
    def from_tensors(kind: ShardKind, tensors: dict[str, NDArray[Any]], *, folded: bool) -> "Shard":
        """The inverse of `tensors`."""
        postings = Postings(*(tensors[f"list_{name}"] for name in LIST_FIELDS))
        columns = AdColumns(**{name: tensors[name] for name in COLUMN_FIELDS})
        return Shard(kind, columns, postings, folded)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 of the shard's content."""
        digest = hashlib.sha256()
        for name, array in sorted(self.tensors().items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def memory_bytes(self) -> int:
        """Bytes of postings and columns."""
        return self.postings.memory_bytes() + self.columns.memory_bytes()


def shard_table(placed: list[tuple[int, Shard]]) -> Int64:
    """[S, FIELDS] int64, the shard table of shards at first slots."""
    table = np.zeros((len(placed), shards.FIELDS), np.int64)
    for row, (first_slot, shard) in zip(table, placed, strict=True):
        row[:] = shard.table_row(first_slot)
    return table
