"""HitMatch sums on a GPU: columns slot by slot, U16 segments by merge-path.

What a U16 list has in a block is a segment, and a query's segments differ in
length by four orders of magnitude. Each is cut into pieces by the binary digits
of its length, 13 postings into 8 + 4 + 1, and pieces of one size are a category.
Every piece is full, so within a category a posting's piece is a shift away, and
what merge-path has to cut is a path with one row per category, whose search
costs five steps. U8 segments, whose slots are
sums of gaps, and RAW lists, which are short, get a warp each.

Sums go into the scores by int32 atomics, whose order changes nothing.
"""

from typing import Any

import numpy as np
from numba import cuda

from ..cpu.encodings import (
    BITMAP,
    BLOCK_SLOTS,
    DENSE,
    FULL_WEIGHT,
    GAP_STEP,
    RAW,
    U8,
    U16,
    WEIGHTED,
)
from ..cpu.shards import ADS, FIRST_BLOCK, FIRST_SLOT
from . import shards
from .balance import split
from .compiled import (
    FULL_WARP,
    WARP_LANES,
    array,
    int32,
    int64,
    kernel,
    load,
    prefix_sum,
    uint8,
)
from .device import current, spread

THREADS = 256

# Pieces of 2^0 to 2^15 postings: a segment has at most 65,280.
CATEGORIES = 16

# What is known of a piece: where its slots are within their block, where its
# weights are or 0, the slot where the block begins, the query weight: [4] int64.
LOWS, WEIGHTS, BLOCK_SLOT, WEIGHT = range(4)
PIECE_FIELDS = 4


@kernel(
    array(int64, 2),
    array(int32),
    array(int32, 2),
    array(int32),
    threads=THREADS,
    registers=40,
    shared_bytes=4 * CATEGORIES,
)
def count_pieces(table: Any, query_features: Any, located: Any, totals: Any) -> None:
    """Find each query feature in each shard and count pieces by category.

    One thread per shard and feature.

    Args:
        table: [S, FIELDS] int64.
        query_features: [Q] int32.
        located: [>= S, >= Q] int32, written.
        totals: [CATEGORIES] int32, added to.
    """
    own = cuda.shared.array(CATEGORIES, np.int32)
    thread = cuda.threadIdx.x
    if thread < CATEGORIES:
        own[thread] = 0
    cuda.syncthreads()
    features = query_features.shape[0]
    pair = cuda.grid(1)
    while pair < table.shape[0] * features:
        shard = pair // features
        q = pair - shard * features
        place = shards.locate(table, shard, query_features[q])
        located[shard, q] = place
        if place >= 0 and shards.encoding(table, shard, place) == U16:
            for block in range(shards.blocks(table, shard)):
                count = shards.count(table, shard, place, table[shard, FIRST_BLOCK] + block)
                for category in range(CATEGORIES):
                    if (count >> category) & 1:
                        cuda.atomic.add(own, category, 1)
        pair += cuda.gridsize(1)
    cuda.syncthreads()
    if thread < CATEGORIES and own[thread] > 0:
        cuda.atomic.add(totals, thread, own[thread])


@kernel(
    array(int64, 2),
    array(int32),
    array(int32, 2),
    array(int32),
    array(int32),
    array(int64, 2),
    threads=THREADS,
    registers=56,
    shared_bytes=4 * CATEGORIES,
)
def place_pieces(
    table: Any, query_weights: Any, located: Any, totals: Any, placed: Any, pieces: Any
) -> None:
    """Write down the pieces, grouped by category.

    Args:
        table, located, totals: from `count_pieces`.
        query_weights: [Q] int32.
        placed: [CATEGORIES] int32, zero before.
        pieces: [at least all, PIECE_FIELDS] int64, written.
    """
    starts = cuda.shared.array(CATEGORIES, np.int32)
    if cuda.threadIdx.x == 0:
        start = 0
        for category in range(CATEGORIES):
            starts[category] = start
            start += totals[category]
    cuda.syncthreads()
    features = query_weights.shape[0]
    pair = cuda.grid(1)
    while pair < table.shape[0] * features:
        shard = pair // features
        q = pair - shard * features
        place = located[shard, q]
        if place >= 0 and shards.encoding(table, shard, place) == U16:
            entry = np.int64(0)
            for block in range(table[shard, FIRST_BLOCK]):
                entry += shards.count(table, shard, place, block)
            for block in range(shards.blocks(table, shard)):
                count = shards.count(table, shard, place, table[shard, FIRST_BLOCK] + block)
                for category in range(CATEGORIES):
                    if (count >> category) & 1:
                        piece = starts[category] + cuda.atomic.add(placed, category, 1)
                        pieces[piece, LOWS] = shards.entry_address(table, shard, place, entry)
                        pieces[piece, WEIGHTS] = shards.weight_address(table, shard, place, entry)
                        pieces[piece, BLOCK_SLOT] = table[shard, FIRST_SLOT] + block * BLOCK_SLOTS
                        pieces[piece, WEIGHT] = query_weights[q]
                        entry += 1 << category
        pair += cuda.gridsize(1)


@kernel(
    array(int64, 2),
    array(int32, 2),
    array(int32),
    array(int32),
    threads=THREADS,
    registers=64,
    shared_bytes=16 * THREADS + 4,
)
def sum_columns(table: Any, located: Any, query_weights: Any, scores: Any) -> None:
    """Write the sum of the query's DENSE and BITMAP lists at every slot of every shard.

    A thread per slot. The lists are gathered into shared memory, as many at a
    time as a block has threads.

    Args:
        table: [S, FIELDS] int64.
        located: [>= S, >= Q] int32.
        query_weights: [Q] int32.
        scores: [N] int32, written.
    """
    addresses = cuda.shared.array(THREADS, np.int64)
    encodings = cuda.shared.array(THREADS, np.int32)
    weights = cuda.shared.array(THREADS, np.int32)
    found = cuda.shared.array(1, np.int32)
    features = query_weights.shape[0]
    for shard in range(table.shape[0]):
        first = table[shard, FIRST_SLOT]
        origin = shards.origin(table, shard)
        begin = 0
        while begin == 0 or begin < features:
            cuda.syncthreads()
            if cuda.threadIdx.x == 0:
                found[0] = 0
            cuda.syncthreads()
            q = begin + cuda.threadIdx.x
            if q < features and located[shard, q] >= 0:
                listed = located[shard, q]
                encoding = shards.encoding(table, shard, listed)
                if encoding in (DENSE, BITMAP):
                    at = cuda.atomic.add(found, 0, 1)
                    addresses[at] = shards.address(table, shard, listed)
                    encodings[at] = encoding
                    weights[at] = query_weights[q]
            cuda.syncthreads()
            ad = np.int64(cuda.grid(1))
            while ad < table[shard, ADS]:
                total = np.int32(0)
                if begin > 0:
                    total = scores[first + ad]
                place = origin + ad
                for c in range(found[0]):
                    if encodings[c] == DENSE:
                        weight = np.int32(load(addresses[c] + place, np.uint8))
                    else:
                        bits = np.int32(load(addresses[c] + (place >> 3), np.uint8))
                        weight = np.int32(((bits >> (place & 7)) & 1) * FULL_WEIGHT)
                    total = np.int32(total + weights[c] * weight)
                scores[first + ad] = total
                ad += cuda.gridsize(1)
            begin += THREADS


@kernel(
    array(int64, 2),
    array(int32, 2),
    array(int32),
    int64,
    array(int32),
    threads=THREADS,
    registers=72,
)
def scatter_lists(
    table: Any, located: Any, query_weights: Any, most_blocks: int, scores: Any
) -> None:
    """Add U8 lists, a warp per list and block, and RAW ones, a warp per list.

    Args:
        table, located, query_weights: as in `sum_columns`.
        most_blocks: blocks that a row has at most.
        scores: [N] int32, added to.
    """
    lane = cuda.laneid
    features = query_weights.shape[0]
    item = np.int64(cuda.grid(1) // WARP_LANES)
    while item < table.shape[0] * features * most_blocks:
        pair = item // most_blocks
        block = item - pair * most_blocks
        shard = pair // features
        q = pair - shard * features
        listed = located[shard, q]
        first = table[shard, FIRST_SLOT]
        if listed >= 0 and block < shards.blocks(table, shard):
            encoding = shards.encoding(table, shard, listed)
            if encoding == U8:
                entry = np.int64(0)
                for before in range(table[shard, FIRST_BLOCK] + block):
                    entry += shards.count(table, shard, listed, before)
                count = shards.count(table, shard, listed, table[shard, FIRST_BLOCK] + block)
                gaps = shards.entry_address(table, shard, listed, entry)
                weights = shards.weight_address(table, shard, listed, entry)
                low = shards.first_low(table, shard, listed, table[shard, FIRST_BLOCK] + block)
                # The first gap is 1.
                slot = first + block * BLOCK_SLOTS + low - 1
                begin = np.int64(0)
                while begin < count:
                    gap = np.int32(0)
                    if begin + lane < count:
                        gap = np.int32(load(gaps + begin + lane, np.uint8))
                    through = prefix_sum(gap)
                    if begin + lane < count and gap != GAP_STEP:
                        weight = shards.weight_at(weights, begin + lane)
                        added = np.int32(query_weights[q] * weight)
                        cuda.atomic.add(scores, slot + through, added)
                    slot += cuda.shfl_sync(FULL_WARP, through, WARP_LANES - 1)
                    begin += WARP_LANES
            elif encoding == RAW and block == 0:
                count = shards.raw_entries(table, shard, listed)
                slots = shards.address(table, shard, listed)
                weights = np.int64(0)
                if shards.code(table, shard, listed) & WEIGHTED:
                    weights = slots + 4 * count
                p = np.int64(lane)
                while p < count:
                    place = load(slots + 4 * p, np.int32) - shards.origin(table, shard)
                    if place >= 0 and place < table[shard, ADS]:
                        weight = shards.weight_at(weights, p)
                        added = np.int32(query_weights[q] * weight)
                        cuda.atomic.add(scores, first + place, added)
                    p += WARP_LANES
        item += cuda.gridsize(1) // WARP_LANES


@kernel(
    array(int64, 2),
    array(int32),
    array(int32),
    threads=THREADS,
    registers=48,
    shared_bytes=12 * CATEGORIES,
)
def scatter_pieces(pieces: Any, totals: Any, scores: Any) -> None:
    """Add the postings of all pieces to the scores, by merge-path.

    Every block walks an equal stretch of the path; its threads take every
    THREADS-th posting of it, so that a warp reads neighbouring ones.

    Args:
        pieces, totals: from `place_pieces`.
        scores: [N] int32, added to.
    """
    ends = cuda.shared.array(CATEGORIES, np.int64)
    starts = cuda.shared.array(CATEGORIES, np.int32)
    thread = cuda.threadIdx.x
    if thread == 0:
        start = 0
        end = np.int64(0)
        for category in range(CATEGORIES):
            starts[category] = start
            start += totals[category]
            end += np.int64(totals[category]) << category
            ends[category] = end
    cuda.syncthreads()
    steps = CATEGORIES + ends[CATEGORIES - 1]
    stretch = (steps + cuda.gridDim.x - 1) // cuda.gridDim.x
    begin = min(steps, stretch * cuda.blockIdx.x)
    stop = min(steps, begin + stretch)
    category = split(ends, CATEGORIES, begin)
    item = begin - category + thread
    stop -= split(ends, CATEGORIES, stop)
    while item < stop:
        while item >= ends[category]:
            category += 1
        within = item
        if category > 0:
            within -= ends[category - 1]
        piece = starts[category] + (within >> category)
        posting = within & ((1 << category) - 1)
        low = np.int64(load(pieces[piece, LOWS] + 2 * posting, np.uint16))
        weight = shards.weight_at(pieces[piece, WEIGHTS], posting)
        slot = pieces[piece, BLOCK_SLOT] + low
        cuda.atomic.add(scores, slot, np.int32(pieces[piece, WEIGHT] * weight))
        item += THREADS


@kernel(
    int64,
    int64,
    array(int64),
    array(int32),
    array(uint8),
    array(int32),
    array(int32),
    threads=THREADS,
    registers=40,
)
def sum_tail(
    tail_first: int,
    tail_ads: int,
    tail_bounds: Any,
    tail_features: Any,
    tail_weights: Any,
    weight_of: Any,
    scores: Any,
) -> None:
    """Write the sums of the tail, a thread per ad; arguments as in `score`."""
    ad = np.int64(cuda.grid(1))
    while ad < tail_ads:
        total = np.int32(0)
        for p in range(tail_bounds[ad], tail_bounds[ad + 1]):
            total = np.int32(total + weight_of[tail_features[p]] * np.int32(tail_weights[p]))
        scores[tail_first + ad] = total
        ad += cuda.gridsize(1)


def most_pieces(features: int, slots: int, shards: int) -> int:
    """How many pieces a query of so many features may have."""
    # Every shard ends in one block that may not be full.
    return max(1, features * (slots // BLOCK_SLOTS + shards) * CATEGORIES)


def piece_bytes(features: int, slots: int, shards: int) -> int:
    """Bytes of the pieces of such a query."""
    return 8 * PIECE_FIELDS * most_pieces(features, slots, shards)


def score(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_bounds: Any,
    tail_features: Any,
    tail_weights: Any,
    query_features: Any,
    query_weights: Any,
    narrow_limit: int,
    weight_of: Any,
    located: Any,
    scores: Any,
    touched: Any,
    block_sums: Any,
) -> int:
    """Sum the HitMatch part of a query over all shards and the tail.

    Arguments as in the CPU twin, in device memory. There is one way, which
    writes all scores: `narrow_limit`, `touched` and `block_sums` are not used,
    since passing over a slot costs a GPU next to nothing and reporting the
    touched ones to the host would cost a wait.

    Returns:
        -1: all of `scores` was written.
    """
    arrays = current().arrays
    features = len(query_features)
    pairs = table.shape[0] * features
    if table.shape[0]:
        totals = arrays.zeros(CATEGORIES, np.int32)
        placed = arrays.zeros(CATEGORIES, np.int32)
        most = most_pieces(features, len(scores), table.shape[0])
        pieces = arrays.empty((most, PIECE_FIELDS), np.int64)
        spread(count_pieces, pairs, table, query_features, located, totals)
        spread(place_pieces, pairs, table, query_weights, located, totals, placed, pieces)
        spread(sum_columns, len(scores), table, located, query_weights, scores)
        # Postings are not counted here; enough blocks for a long query do no
        # harm to a short one.
        most_blocks = -(-len(scores) // BLOCK_SLOTS)
        lists = pairs * most_blocks
        spread(
            scatter_lists,
            lists,
            table,
            located,
            query_weights,
            most_blocks,
            scores,
            lanes=WARP_LANES,
        )
        spread(scatter_pieces, len(scores), pieces, totals, scores)
    if tail_ads:
        weight_of[query_features] = query_weights
        spread(
            sum_tail,
            tail_ads,
            tail_first,
            tail_ads,
            tail_bounds,
            tail_features,
            tail_weights,
            weight_of,
            scores,
        )
        weight_of[query_features] = 0
    return -1
