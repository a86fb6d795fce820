"""Posting lists read by a warp, its lanes taking neighbouring entries.

Kernels differ in what they do with a posting; how each encoding is read is here.
"""

from typing import Any

import numpy as np
from numba import cuda

from ..cpu.encodings import (
    BITMAP,
    BLOCK_SLOTS,
    DENSE,
    ENCODING_MASK,
    FULL_WEIGHT,
    GAP_STEP,
    RAW,
    U8,
    U16,
    WEIGHTED,
    WORD_BYTES,
)
from ..cpu.shards import FIRST_SLOT, SHARD_ADS
from . import shards
from .compiled import FULL_WARP, WARP_LANES, Function, inlined, load, prefix_sum


def reader(take: Function) -> Function:
    """Make a function that reads a whole list of a shard.

    Args:
        take: called as take(slot, weight, context) for each posting, by one lane.

    Returns:
        read(table, shard, listed, context), to be called by all lanes of a warp;
        `listed` is from `shards.locate`, and an absent list has no postings.
    """

    @inlined
    def read(table: Any, shard: int, listed: int, context: Any) -> None:
        lane = cuda.laneid
        first = table[shard, FIRST_SLOT]
        ads = table[shard, SHARD_ADS]
        # Behind every encoding, so that an absent list passes all branches.
        encoding = ENCODING_MASK
        begin = np.int64(0)
        if listed >= 0:
            encoding = shards.encoding(table, shard, listed)
            begin = shards.address(table, shard, listed)
        if encoding in (U16, U8):
            entry = np.int64(0)
            for block in range(shards.shard_blocks(table, shard)):
                count = shards.count(table, shard, listed, block)
                values = shards.entry_address(table, shard, listed, entry)
                own = shards.weight_address(table, shard, listed, entry)
                slot = first + block * BLOCK_SLOTS
                if encoding == U8:
                    # The first gap is 1.
                    slot += shards.first_low(table, shard, listed, block) - 1
                p = np.int64(0)
                while p < count:
                    gap = np.int32(0)
                    through = np.int32(0)
                    here = p + lane < count
                    if encoding == U16 and here:
                        through = np.int32(load(values + 2 * (p + lane), np.uint16))
                    elif encoding == U8:
                        if here:
                            gap = np.int32(load(values + p + lane, np.uint8))
                        through = prefix_sum(gap)
                    if here and gap != GAP_STEP:
                        take(slot + through, shards.weight_at(own, p + lane), context)
                    if encoding == U8:
                        slot += cuda.shfl_sync(FULL_WARP, through, WARP_LANES - 1)
                    p += WARP_LANES
                entry += count
        elif encoding == RAW:
            count = shards.raw_entries(table, shard, listed)
            own = np.int64(0)
            if shards.code(table, shard, listed) & WEIGHTED:
                own = begin + WORD_BYTES * count
            p = np.int64(lane)
            while p < count:
                slot = first + load(begin + 4 * p, np.int32)
                take(slot, shards.weight_at(own, p), context)
                p += WARP_LANES
        elif encoding in (BITMAP, DENSE):
            p = np.int64(lane)
            while p < ads:
                weight = np.int32(0)
                if encoding == DENSE:
                    weight = np.int32(load(begin + p, np.uint8))
                elif (load(begin + (p >> 3), np.uint8) >> (p & 7)) & 1:
                    weight = np.int32(FULL_WEIGHT)
                if weight != 0:
                    take(first + p, weight, context)
                p += WARP_LANES

    return read
