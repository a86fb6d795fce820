"""HitMatch sums: query weights times posting weights, summed by slot in int32.

Two ways to the same sums. The wide way goes through the lists block by block
and leaves a score for every slot; the narrow way adds into an array that is
zero between queries and remembers which slots it touched, for queries whose
postings are few. Choosing between them is part of `score`, since both need the
lists located first.

Indices in inner loops are unsigned: for a signed one Numba asks each time
whether it counts from the end, which keeps loops from being vectorised.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, inlined, int32, int64, kernel, uint8, written

# The narrow way costs about 16 times as much a posting as the wide one does a
# slot (random access against streaming), so it wins below this share.
NARROW_SHARE = 16

# Query weights within +-63 keep the sum of four dense products in a uint16:
# 4 * 63 * 255 = 64,260. Larger weights are split into digits of 6 bits.
DIGIT_BITS = 6
DIGIT_MASK = 63


@inlined
def _touch(
    table: Any, shard: int, located: Any, query_weights: Any, sums: Any, touched: Any, count: int
) -> Any:
    """Add one shard's postings into `sums`, noting each slot that leaves zero."""
    first = table[shard, shards.FIRST_SLOT]
    bounds = shards.bounds(table, shard)
    counts = shards.counts(table, shard)
    for q in range(len(located)):
        listed = located[q]
        if listed < 0:
            continue
        cursor = np.int64(bounds[listed])
        for block in range(counts.shape[1]):
            stop = cursor + counts[listed, block]
            start = first + block * shards.BLOCK_SLOTS
            lows = shards.lows(table, shard, cursor, stop)
            weights = shards.weights(table, shard, cursor, stop)
            for p in range(len(lows)):
                slot = np.uint32(start + lows[p])
                if sums[slot] == 0:
                    touched[count] = slot
                    count += 1
                sums[slot] += query_weights[q] * np.int32(weights[p])
            cursor = stop
    return count


@inlined
def _dense_terms(located: Any, query_weights: Any) -> tuple[Any, Any, Any]:
    """The query's dense columns as terms, in groups of four of equal factor.

    A weight becomes one term per non-zero digit; a term's factor is its sign
    times the digit's place. Groups are filled up with digit 0.

    Returns:
        rows int64, digits uint16 and factors int32, [terms] each.
    """
    capacity = 4 * len(located) + 16
    rows = np.zeros(capacity, np.int64)
    digits = np.zeros(capacity, np.uint16)
    factors = np.zeros(capacity, np.int32)
    terms = 0
    for sign in (1, -1):
        for place in (0, DIGIT_BITS):
            begun = terms
            for q in range(len(located)):
                if located[q] >= -1:
                    continue
                digit = (query_weights[q] * sign >> place) & DIGIT_MASK
                if query_weights[q] * sign > 0 and digit != 0:
                    rows[terms] = -2 - located[q]
                    digits[terms] = digit
                    factors[terms] = sign << place
                    terms += 1
            while (terms - begun) % 4 != 0:
                rows[terms] = rows[terms - 1]
                factors[terms] = factors[terms - 1]
                terms += 1
    return rows[:terms], digits[:terms], factors[:terms]


@inlined
def _add_columns(
    sums: Any, first: Any, second: Any, third: Any, fourth: Any, digits: Any, factor: int
) -> None:
    """sums += factor * (digits . columns), summed in uint16 and widened once."""
    a, b, c, d = digits[0], digits[1], digits[2], digits[3]
    for ad in range(len(sums)):
        total = np.uint16(
            np.uint16(np.uint16(first[ad]) * a)
            + np.uint16(np.uint16(second[ad]) * b)
            + np.uint16(np.uint16(third[ad]) * c)
            + np.uint16(np.uint16(fourth[ad]) * d)
        )
        sums[ad] += factor * np.int32(total)


@inlined
def _scatter(sums: Any, lows: Any, weights: Any, query_weight: int) -> None:
    for p in range(len(lows)):
        sums[lows[p]] += query_weight * np.int32(weights[p])


@inlined
def _sum_blocks(table: Any, shard: int, located: Any, query_weights: Any, scores: Any) -> None:
    """Write one shard's sums, one cache-sized block of slots at a time."""
    first = table[shard, shards.FIRST_SLOT]
    ads = table[shard, shards.ADS]
    bounds = shards.bounds(table, shard)
    counts = shards.counts(table, shard)
    cursors = np.empty(len(located), np.int64)
    for q in range(len(located)):
        if located[q] >= 0:
            cursors[q] = bounds[located[q]]
    rows, digits, factors = _dense_terms(located, query_weights)
    for block in range(counts.shape[1]):
        start = block * shards.BLOCK_SLOTS
        stop = min(ads, start + shards.BLOCK_SLOTS)
        sums = scores[first + start : first + stop]
        sums[:] = 0
        for term in range(0, len(rows), 4):
            _add_columns(
                sums,
                shards.column(table, shard, rows[term], start, stop),
                shards.column(table, shard, rows[term + 1], start, stop),
                shards.column(table, shard, rows[term + 2], start, stop),
                shards.column(table, shard, rows[term + 3], start, stop),
                digits[term : term + 4],
                factors[term],
            )
        for q in range(len(located)):
            if located[q] < 0:
                continue
            count = np.int64(counts[located[q], block])
            if count != 0:
                cursor = cursors[q]
                _scatter(
                    sums,
                    shards.lows(table, shard, cursor, cursor + count),
                    shards.weights(table, shard, cursor, cursor + count),
                    query_weights[q],
                )
                cursors[q] = cursor + count


@kernel(
    fixed(int64, 2),
    int64,
    int64,
    fixed(int64),
    fixed(int32),
    fixed(uint8),
    fixed(int32),
    fixed(int32),
    int64,
    written(int32),
    written(int32, 2),
    written(int32),
    written(int32),
    written(int32),
    written(int64),
)
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
    zeros: Any,
    touched: Any,
    touched_bounds: Any,
) -> int:
    """Sum the HitMatch part of a query over all shards and the tail.

    S sealed shards, Q query features, N slots, F features.

    Args:
        table: [S, FIELDS] int64, the shard table.
        tail_first: the tail's first slot.
        tail_ads: ads in the tail.
        tail_bounds: [>= tail_ads + 1] int64, each tail ad's range of features.
        tail_features: [...] int32.
        tail_weights: [...] uint8.
        query_features: [Q] int32, distinct.
        query_weights: [Q] int32, none zero.
        narrow_limit: take the narrow way if fewer postings than this are
            touched outside the tail; 0 forbids it.
        weight_of: [F] int32 scratch, all zero before and after.
        located: [>= S, >= Q] int32 scratch.
        scores: [N] int32, written by the wide way where there are ads.
        zeros: [N] int32, all zero before; the narrow way leaves its sums there
            for the slots of `touched`, and `topk` puts the zeros back.
        touched: [tail_ads + narrow_limit] int32, slots of the narrow way; a slot
            may come twice.
        touched_bounds: [>= S + 2] int64, each shard's and the tail's range of it.

    Returns:
        How many slots were touched, or -1 if all of `scores` was written.
    """
    postings = 0
    narrow = narrow_limit > 0
    for shard in range(table.shape[0]):
        for q in range(len(query_features)):
            position = shards.locate(table, shard, query_features[q])
            located[shard, q] = position
            if position >= 0:
                bounds = shards.bounds(table, shard)
                postings += bounds[position + 1] - bounds[position]
            elif position < -1:
                narrow = False
    narrow = narrow and postings < narrow_limit
    for q in range(len(query_features)):
        weight_of[query_features[q]] = query_weights[q]
    count = 0
    touched_bounds[0] = 0
    for shard in range(table.shape[0]):
        own = located[shard, : len(query_features)]
        if narrow:
            count = _touch(table, shard, own, query_weights, zeros, touched, count)
            touched_bounds[shard + 1] = count
        else:
            _sum_blocks(table, shard, own, query_weights, scores)
    for ad in range(tail_ads):
        total = np.int32(0)
        for p in range(np.uint64(tail_bounds[ad]), np.uint64(tail_bounds[ad + 1])):
            total += weight_of[np.uint32(tail_features[p])] * np.int32(tail_weights[p])
        slot = tail_first + ad
        if not narrow:
            scores[slot] = total
        elif total != 0:
            zeros[slot] = total
            touched[count] = slot
            count += 1
    touched_bounds[table.shape[0] + 1] = count
    for q in range(len(query_features)):
        weight_of[query_features[q]] = 0
    return count if narrow else -1


@kernel(
    fixed(int64, 2),
    int64,
    int64,
    fixed(int64),
    fixed(int32),
    fixed(int32),
    uint8,
    written(uint8),
)
def mark(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_bounds: Any,
    tail_features: Any,
    wanted: Any,
    value: int,
    marks: Any,
) -> None:
    """Set `marks` to a value at every slot that carries a wanted feature.

    Args:
        table, tail_first, tail_ads, tail_bounds, tail_features: as in `score`.
        wanted: [W] int32, ascending.
        value: what to write.
        marks: [N] uint8 by slot.
    """
    for shard in range(table.shape[0]):
        first = table[shard, shards.FIRST_SLOT]
        ads = table[shard, shards.ADS]
        for w in range(len(wanted)):
            position = shards.locate(table, shard, wanted[w])
            if position >= 0:
                bounds = shards.bounds(table, shard)
                cursor = np.int64(bounds[position])
                counts = shards.counts(table, shard)
                for block in range(counts.shape[1]):
                    start = first + block * shards.BLOCK_SLOTS
                    stop = cursor + counts[position, block]
                    for low in shards.lows(table, shard, cursor, stop):
                        marks[start + low] = value
                    cursor = stop
            elif position < -1:
                column = shards.column(table, shard, -2 - position, 0, ads)
                for ad in range(ads):
                    if column[ad] != 0:
                        marks[first + ad] = value
    for ad in range(tail_ads):
        for p in range(tail_bounds[ad], tail_bounds[ad + 1]):
            place = np.searchsorted(wanted, tail_features[p])
            if place < len(wanted) and wanted[place] == tail_features[p]:
                marks[tail_first + ad] = value
