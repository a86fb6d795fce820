"""The shard table: what a kernel knows about the sealed shards of a view.

One int64 row per shard holds lengths and the addresses of the shard's arrays,
so that one call, which gives up the GIL once, covers every shard, however many
there are. The view that passes the table keeps those arrays alive.

A row may also stand for a run of a shard's blocks: slots and columns are then
those of the run, lists those of the whole shard.
"""

from typing import Any

import numpy as np
from numba import carray

from . import encodings
from .compiled import inlined, void_pointer
from .encodings import BLOCK_SLOTS as BLOCK_SLOTS
from .encodings import PAGE_SLOTS as PAGE_SLOTS
from .encodings import WORD_BYTES

(
    FIRST_SLOT,
    ADS,
    SHARD_ADS,
    FIRST_BLOCK,
    WIDTH,
    AD_IDS,
    TARGETING,
    EMBEDDINGS,
    LISTS,
    FEATURES,
    BUCKETS,
    BUCKET_SHIFT,
    BUCKET_COUNT,
    STARTS,
    CODES,
    DATA,
    FIELDS,
) = range(17)


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
    """[lists] int32, the feature of each list, ascending."""
    return carray(void_pointer(table[shard, FEATURES]), (table[shard, LISTS],), np.int32)


@inlined
def buckets(table: Any, shard: int) -> Any:
    """[buckets + 1] int32, bounds into `features` by `feature >> shift`."""
    return carray(void_pointer(table[shard, BUCKETS]), (table[shard, BUCKET_COUNT] + 1,), np.int32)


@inlined
def locate(table: Any, shard: int, feature: int) -> Any:
    """Which list of a shard is a feature's, or -1."""
    bucket = feature >> table[shard, BUCKET_SHIFT]
    if bucket < table[shard, BUCKET_COUNT]:
        starts = buckets(table, shard)
        listed = features(table, shard)
        for position in range(starts[bucket], starts[bucket + 1]):
            if listed[position] == feature:
                return position
    return -1


@inlined
def locate_all(table: Any, shard: int, wanted: Any, located: Any) -> None:
    """Which list of a shard is each feature's, or -1.

    Step by step for all of them, and without a branch that waits for memory, so
    that the cache misses of many features overlap.

    Args:
        table, shard: the shard.
        wanted: [Q] int32, features.
        located: [>= Q] int32, the result.
    """
    starts = buckets(table, shard)
    listed = features(table, shard)
    if len(listed) == 0:
        located[: len(wanted)] = -1
        return
    last = table[shard, BUCKET_COUNT] - 1
    ends = np.empty(len(wanted), np.int32)
    for q in range(np.uint64(len(wanted))):
        bucket = np.uint64(min(np.int64(wanted[q]) >> table[shard, BUCKET_SHIFT], last))
        located[q] = starts[bucket]
        ends[q] = starts[bucket + np.uint64(1)]
    for q in range(np.uint64(len(wanted))):
        position = located[q]
        for other in range(np.uint64(located[q]), np.uint64(ends[q])):
            position += np.int32(listed[other] < wanted[q])
        located[q] = position
    for q in range(np.uint64(len(wanted))):
        position = np.uint64(min(np.int64(located[q]), np.int64(len(listed) - 1)))
        located[q] = position if listed[position] == wanted[q] else -1


@inlined
def code(table: Any, shard: int, listed: int) -> Any:
    """A list's code, see `encodings`."""
    codes = carray(void_pointer(table[shard, CODES]), (table[shard, LISTS],), np.uint8)
    return np.int64(codes[listed])


@inlined
def words(table: Any, shard: int, listed: int) -> Any:
    """A list's size in words."""
    starts = carray(void_pointer(table[shard, STARTS]), (table[shard, LISTS] + 1,), np.int32)
    return np.int64(starts[listed + 1] - starts[listed])


@inlined
def address(table: Any, shard: int, listed: int) -> Any:
    """Where a list begins in memory."""
    starts = carray(void_pointer(table[shard, STARTS]), (table[shard, LISTS] + 1,), np.int32)
    return table[shard, DATA] + WORD_BYTES * np.int64(starts[listed])


@inlined
def decode(table: Any, shard: int, listed: int, slots: Any, weights: Any) -> Any:
    """Read a list of a whole shard; see `encodings.decode`."""
    return encodings.decode(
        address(table, shard, listed),
        words(table, shard, listed),
        code(table, shard, listed),
        table[shard, SHARD_ADS],
        slots,
        weights,
    )


@inlined
def most_postings(table: Any, shard: int, listed: int) -> Any:
    """How many postings a list has, or a few more."""
    return encodings.most_postings(
        words(table, shard, listed), code(table, shard, listed), table[shard, SHARD_ADS]
    )
