"""Folding of shards on a GPU: their posting lists merged for the ads' new slots.

A warp decodes a list, its lanes taking neighbouring entries. As in `build`, one
pass counts and one places, and the new lists are put into order and encoded.
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
from ..cpu.shards import FIRST_SLOT, LISTS, SHARD_ADS
from . import shards
from .compiled import (
    FULL_WARP,
    WARP_LANES,
    array,
    inlined,
    int32,
    int64,
    kernel,
    load,
    prefix_sum,
    uint8,
)
from .device import current, spread
from .encode import encoded

THREADS = 256


@kernel(
    array(int64, 2),
    array(int64),
    array(int32),
    array(int64),
    threads=THREADS,
    registers=48,
)
def list_lists(table: Any, bounds: Any, features: Any, most: Any) -> None:
    """Write down the feature of every list and how many postings it has at most.

    Args:
        table: [S, FIELDS] int64.
        bounds: [S + 1] int64, running total of the shards' lists.
        features: [all lists] int32, written.
        most: [all lists] int64, written.
    """
    item = np.int64(cuda.grid(1))
    shard = 0
    while item < features.shape[0]:
        while item >= bounds[shard + 1]:
            shard += 1
        listed = item - bounds[shard]
        encoding = shards.encoding(table, shard, listed)
        features[item] = shards.feature(table, shard, listed)
        if encoding == RAW:
            most[item] = shards.raw_entries(table, shard, listed)
        elif encoding in (U16, U8):
            most[item] = shards.entries(table, shard, listed)
        else:
            most[item] = table[shard, SHARD_ADS]
        item += cuda.gridsize(1)


@inlined
def take(
    number: int,
    slot: int,
    weight: int,
    moved: Any,
    cursors: Any,
    lists: Any,
    slots: Any,
    weights: Any,
) -> None:
    """Count a posting at its new slot, if it has one, and place it if there is room."""
    to = moved[slot]
    if to >= 0:
        at = cuda.atomic.add(cursors, number, 1)
        if lists.shape[0] > 0:
            lists[at] = number
            slots[at] = to
            weights[at] = weight


@kernel(
    array(int64, 2),
    array(int32),
    array(int32),
    array(int32),
    array(int32),
    array(int32),
    array(uint8),
    threads=128,
    registers=112,
)
def merge(
    table: Any, wanted: Any, moved: Any, cursors: Any, lists: Any, slots: Any, weights: Any
) -> None:
    """Count or place the postings of some features, a warp per shard and feature.

    Args:
        table: [S, FIELDS] int64.
        wanted: [L] int32, features.
        moved: as in `fold`.
        cursors: [L] int32; a pass that counts begins at 0, one that places at
            each list's first place.
        lists: [P] int32, written, or [0] to count; as are the following.
        slots: [P] int32.
        weights: [P] uint8.
    """
    lane = cuda.laneid
    item = np.int64(cuda.grid(1) // WARP_LANES)
    while item < table.shape[0] * wanted.shape[0]:
        shard = item // wanted.shape[0]
        number = item - shard * wanted.shape[0]
        first = table[shard, FIRST_SLOT]
        ads = table[shard, SHARD_ADS]
        listed = shards.locate(table, shard, wanted[number])
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
                        weight = shards.weight_at(own, p + lane)
                        take(number, slot + through, weight, moved, cursors, lists, slots, weights)
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
                weight = shards.weight_at(own, p)
                take(number, slot, weight, moved, cursors, lists, slots, weights)
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
                    take(number, first + p, weight, moved, cursors, lists, slots, weights)
                p += WARP_LANES
        item += cuda.gridsize(1) // WARP_LANES


def fold(
    table: Any, moved: Any, ads: int, first_feature: int, enough: int
) -> tuple[int, Any, Any, Any, Any]:
    """Merge the lists of some features into lists of one shard.

    Arguments and result as in the CPU twin, in device memory.
    """
    arrays = current().arrays
    features, most = _features(table, first_feature)
    reached = arrays.cumsum(arrays.maximum(most, 1))
    counts = arrays.zeros(len(features), np.int32)
    none = arrays.empty(0, np.int32), arrays.empty(0, np.int32), arrays.empty(0, np.uint8)
    # No list has more postings than it may have, so the features that may have
    # enough are needed in any case; those that turn out to be fewer are counted,
    # and the next ones looked at.
    end = 0
    postings = 0
    while end < len(features) and postings < enough:
        begin = end
        before = int(reached[begin - 1]) if begin else 0
        end = int(arrays.searchsorted(reached, before + enough - postings)) + 1
        end = min(end, len(features))
        own = counts[begin:end]
        spread(
            merge,
            table.shape[0] * (end - begin),
            table,
            features[begin:end],
            moved,
            own,
            *none,
            lanes=WARP_LANES,
        )
        postings += int(arrays.maximum(own, 1).sum())
    following = int(features[end]) if end < len(features) else -1

    held = arrays.flatnonzero(counts[:end])
    features = features[held]
    bounds = arrays.zeros(len(held) + 1, np.int64)
    bounds[1:] = arrays.cumsum(counts[held])
    found = int(bounds[-1])
    lists = arrays.empty(found, np.int32)
    slots = arrays.empty(found, np.int32)
    weights = arrays.empty(found, np.uint8)
    cursors = bounds[:-1].astype(np.int32)
    if found:
        pairs = table.shape[0] * len(features)
        own_lists = (lists, slots, weights)
        spread(merge, pairs, table, features, moved, cursors, *own_lists, lanes=WARP_LANES)
    order = arrays.argsort(lists.astype(np.int64) * ads + slots)
    starts, codes, data = encoded(ads, lists, bounds, slots[order], weights[order])
    return following, features, starts[1:] - starts[:-1], codes, data


def _features(table: Any, first_feature: int) -> tuple[Any, Any]:
    """[L] int32 features from one on, ascending, and int64 postings at most."""
    arrays = current().arrays
    bounds = arrays.zeros(table.shape[0] + 1, np.int64)
    bounds[1:] = arrays.cumsum(table[:, LISTS])
    features = arrays.empty(int(bounds[-1]), np.int32)
    most = arrays.empty(len(features), np.int64)
    spread(list_lists, len(features), table, bounds, features, most)
    wanted = features >= first_feature
    distinct, places = arrays.unique(features[wanted], return_inverse=True)
    sums = arrays.bincount(places, most[wanted], len(distinct))
    return distinct, sums.astype(np.int64)
