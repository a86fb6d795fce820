"""The shard table and its lists as CUDA kernels read them.

Rows, fields and encodings are those of the CPU's (`cpu.shards`, `cpu.encodings`),
and the addresses are the device's. This is the one place that knows where the
parts of an encoded list are; an encoding that is added gets its accessors here.
"""

from typing import Any

import numpy as np

from ..cpu.encodings import (
    BLOCK_SLOTS,
    ENCODING_MASK,
    FULL_WEIGHT,
    U16,
    WEIGHTED,
    WORD_BYTES,
)
from ..cpu.shards import (
    AD_IDS,
    ADS,
    BUCKET_COUNT,
    BUCKET_SHIFT,
    BUCKETS,
    CODES,
    DATA,
    EMBEDDINGS,
    FEATURES,
    FIRST_BLOCK,
    FIRST_SLOT,
    SHARD_ADS,
    STARTS,
)
from .compiled import inlined, load

ABSENT = -1


@inlined
def feature(table: Any, shard: int, listed: int) -> Any:
    """int32, the feature of a list; they ascend."""
    return load(table[shard, FEATURES] + 4 * listed, np.int32)


@inlined
def locate(table: Any, shard: int, wanted: int) -> Any:
    """int32, which list of a shard is a feature's, or ABSENT."""
    bucket = wanted >> table[shard, BUCKET_SHIFT]
    if bucket < table[shard, BUCKET_COUNT]:
        listed = load(table[shard, BUCKETS] + 4 * bucket, np.int32)
        stop = load(table[shard, BUCKETS] + 4 * bucket + 4, np.int32)
        while listed < stop:
            if feature(table, shard, listed) == wanted:
                return np.int32(listed)
            listed += 1
    return np.int32(ABSENT)


@inlined
def code(table: Any, shard: int, listed: int) -> Any:
    """int32, how a list is encoded."""
    return np.int32(load(table[shard, CODES] + listed, np.uint8))


@inlined
def encoding(table: Any, shard: int, listed: int) -> Any:
    """int32, RAW, U16, U8, BITMAP or DENSE."""
    return code(table, shard, listed) & ENCODING_MASK


@inlined
def address(table: Any, shard: int, listed: int) -> Any:
    """int64, where a list begins."""
    start = load(table[shard, STARTS] + 4 * listed, np.int32)
    return table[shard, DATA] + WORD_BYTES * np.int64(start)


@inlined
def words(table: Any, shard: int, listed: int) -> Any:
    """int64, a list's size in words."""
    start = load(table[shard, STARTS] + 4 * listed, np.int32)
    stop = load(table[shard, STARTS] + 4 * listed + 4, np.int32)
    return np.int64(stop - start)


@inlined
def shard_blocks(table: Any, shard: int) -> Any:
    """int64, blocks of the whole shard."""
    return (table[shard, SHARD_ADS] + BLOCK_SLOTS - 1) // BLOCK_SLOTS


@inlined
def blocks(table: Any, shard: int) -> Any:
    """int64, blocks that the row stands for."""
    return (table[shard, ADS] + BLOCK_SLOTS - 1) // BLOCK_SLOTS


@inlined
def origin(table: Any, shard: int) -> Any:
    """int64, the row's first slot, counted from the shard's."""
    return table[shard, FIRST_BLOCK] * BLOCK_SLOTS


@inlined
def count(table: Any, shard: int, listed: int, block: int) -> Any:
    """int64, entries of a U16 or U8 list in a block of the shard."""
    return np.int64(load(address(table, shard, listed) + 2 * block, np.uint16))


@inlined
def first_low(table: Any, shard: int, listed: int, block: int) -> Any:
    """int64, the first slot of a U8 list in a block of the shard, within that block."""
    place = shard_blocks(table, shard) + block
    return np.int64(load(address(table, shard, listed) + 2 * place, np.uint16))


@inlined
def entries(table: Any, shard: int, listed: int) -> Any:
    """int64, entries of a U16 or U8 list in all."""
    total = np.int64(0)
    for block in range(shard_blocks(table, shard)):
        total += count(table, shard, listed, block)
    return total


@inlined
def entry_address(table: Any, shard: int, listed: int, entry: int) -> Any:
    """int64, where an entry of a U16 or U8 list is."""
    begin = address(table, shard, listed)
    if encoding(table, shard, listed) == U16:
        return begin + 2 * shard_blocks(table, shard) + 2 * entry
    return begin + 4 * shard_blocks(table, shard) + entry


@inlined
def weight_address(table: Any, shard: int, listed: int, entry: int) -> Any:
    """int64, where the weight of a U16 or U8 entry is, or 0 if all are full."""
    if code(table, shard, listed) & WEIGHTED == 0:
        return np.int64(0)
    total = entries(table, shard, listed)
    return entry_address(table, shard, listed, total) + entry


@inlined
def weight_at(weights: int, entry: int) -> Any:
    """int32, a weight by the address of the first, which is 0 if all are full."""
    if weights == 0:
        return np.int32(FULL_WEIGHT)
    return np.int32(load(weights + entry, np.uint8))


@inlined
def raw_entries(table: Any, shard: int, listed: int) -> Any:
    """int64, postings of a RAW list."""
    size = 5 if code(table, shard, listed) & WEIGHTED else 4
    return WORD_BYTES * words(table, shard, listed) // size


@inlined
def part_of(table: Any, tail_first: int, slot: int) -> Any:
    """The shard that holds a slot, or the number of shards if the tail does."""
    part = table.shape[0]
    if slot < tail_first:
        part -= 1
        while table[part, FIRST_SLOT] > slot:
            part -= 1
    return part


@inlined
def ad_at(table: Any, tail_first: int, tail_ad_ids: int, slot: int) -> Any:
    """int64, the ad id at a slot; `tail_ad_ids` is the address of the tail's."""
    part = part_of(table, tail_first, slot)
    if part == table.shape[0]:
        return load(tail_ad_ids + 8 * (slot - tail_first), np.int64)
    return load(table[part, AD_IDS] + 8 * (slot - table[part, FIRST_SLOT]), np.int64)


@inlined
def embedding(table: Any, shard: int, ad: int, width: int) -> Any:
    """int64, the address of an ad's [width] int8."""
    return table[shard, EMBEDDINGS] + ad * width
