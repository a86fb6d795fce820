"""The shard table: what a kernel knows about the sealed shards of a view.

One int64 row per shard holds lengths and the addresses of the shard's arrays,
so that one call, which gives up the GIL once, covers every shard, however many
there are. The view that passes the table keeps those arrays alive.
"""

from typing import Any

import numpy as np
from numba import carray

from .compiled import inlined, void_pointer

# A block is the unit of accumulation: its int32 scores fit the L2 cache and a
# slot inside it fits 16 bits. 255 pages rather than 256, so that even the
# count of a full list's postings in a block fits a uint16.
PAGE_SLOTS = 256
BLOCK_SLOTS = 255 * PAGE_SLOTS

(
    FIRST_SLOT,
    ADS,
    WIDTH,
    AD_IDS,
    TARGETING,
    EMBEDDINGS,
    LISTS,
    FEATURES,
    BUCKETS,
    BUCKET_SHIFT,
    BUCKET_COUNT,
    BOUNDS,
    COUNTS,
    LOWS,
    WEIGHTS,
    COLUMNS,
    COLUMN_FEATURES,
    COLUMN_WEIGHTS,
    FIELDS,
) = range(19)


@inlined
def ad_ids(table: Any, shard: int) -> Any:
    """[ads] int64."""
    return carray(void_pointer(table[shard, AD_IDS]), (table[shard, ADS],), np.int64)


@inlined
def targeting(table: Any, shard: int) -> Any:
    """[ads] int32, the number of each ad's rule set."""
    return carray(void_pointer(table[shard, TARGETING]), (table[shard, ADS],), np.int32)


@inlined
def embeddings(table: Any, shard: int) -> Any:
    """[ads, width] int8."""
    shape = (table[shard, ADS], table[shard, WIDTH])
    return carray(void_pointer(table[shard, EMBEDDINGS]), shape, np.int8)


@inlined
def features(table: Any, shard: int) -> Any:
    """[lists] int32, the feature of each segment list, ascending."""
    return carray(void_pointer(table[shard, FEATURES]), (table[shard, LISTS],), np.int32)


@inlined
def buckets(table: Any, shard: int) -> Any:
    """[buckets + 1] int32, bounds into `features` by `feature >> shift`."""
    return carray(void_pointer(table[shard, BUCKETS]), (table[shard, BUCKET_COUNT] + 1,), np.int32)


@inlined
def bounds(table: Any, shard: int) -> Any:
    """[lists + 1] int32, each segment list's range of postings."""
    return carray(void_pointer(table[shard, BOUNDS]), (table[shard, LISTS] + 1,), np.int32)


@inlined
def counts(table: Any, shard: int) -> Any:
    """[lists, blocks] uint16, postings of a list in a block."""
    blocks = (table[shard, ADS] + BLOCK_SLOTS - 1) // BLOCK_SLOTS
    return carray(void_pointer(table[shard, COUNTS]), (table[shard, LISTS], blocks), np.uint16)


@inlined
def lows(table: Any, shard: int, start: int, stop: int) -> Any:
    """[stop - start] uint16, slots within their block."""
    address = table[shard, LOWS] + 2 * start
    return carray(void_pointer(address), (stop - start,), np.uint16)


@inlined
def weights(table: Any, shard: int, start: int, stop: int) -> Any:
    """[stop - start] uint8, 255 = 1.0."""
    return carray(void_pointer(table[shard, WEIGHTS] + start), (stop - start,), np.uint8)


@inlined
def column_features(table: Any, shard: int) -> Any:
    """[columns] int32, the feature of each dense column, ascending."""
    return carray(void_pointer(table[shard, COLUMN_FEATURES]), (table[shard, COLUMNS],), np.int32)


@inlined
def column(table: Any, shard: int, row: int, start: int, stop: int) -> Any:
    """[stop - start] uint8 of one dense column, 0 = absent."""
    address = table[shard, COLUMN_WEIGHTS] + row * table[shard, ADS] + start
    return carray(void_pointer(address), (stop - start,), np.uint8)


@inlined
def locate(table: Any, shard: int, feature: int) -> Any:
    """Where a shard keeps a feature: list >= 0, column c as -2 - c, absent -1."""
    bucket = feature >> table[shard, BUCKET_SHIFT]
    if bucket < table[shard, BUCKET_COUNT]:
        starts = buckets(table, shard)
        listed = features(table, shard)
        for position in range(starts[bucket], starts[bucket + 1]):
            if listed[position] == feature:
                return position
    dense = column_features(table, shard)
    place = np.searchsorted(dense, feature)
    if place < len(dense) and dense[place] == feature:
        return -2 - place
    return -1
