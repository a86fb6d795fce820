"""HitMatch sums: query weights times posting weights, summed by slot in int32.

Two ways to the same sums, both through the lists block by block. The wide way
leaves a score for every slot; the narrow way, for queries whose postings are
few, remembers which slots it touched and leaves those and their scores. Choosing
between them is part of `score`, since both need the lists located first.

Indices in inner loops are unsigned: for a signed one Numba asks each time
whether it counts from the end, which keeps loops from being vectorised.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, inlined, int32, int64, kernel, prefetch, uint8, written
from .encodings import (
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
    blocks_of,
    decode_block,
    int32s,
    raw_postings,
    total,
    uint8s,
    uint16s,
    uint32s,
)

# The narrow way costs about 16 times as much a posting as the wide one does a
# slot (random access against streaming), so it wins below this share.
NARROW_SHARE = 16

# Query weights within +-63 keep the sum of four dense products in a uint16:
# 4 * 63 * 255 = 64,260. Larger weights are split into digits of 6 bits.
DIGIT_BITS = 6
DIGIT_MASK = 63


@inlined
def _terms(table: Any, shard: int, located: Any, query_weights: Any) -> tuple[Any, Any, Any]:
    """The query's dense columns as terms, in groups of four of equal factor.

    A weight becomes one term per non-zero digit; a term's factor is its sign
    times the digit's place. Groups are filled up with digit 0.

    Returns:
        addresses int64 of columns, digits uint16 and factors int32, [terms] each.
    """
    capacity = 2 * len(located) + 16
    addresses = np.zeros(capacity, np.int64)
    digits = np.zeros(capacity, np.uint16)
    factors = np.zeros(capacity, np.int32)
    terms = 0
    for sign in (1, -1):
        for place in (0, DIGIT_BITS):
            begun = terms
            for q in range(len(located)):
                digit = (query_weights[q] * sign >> place) & DIGIT_MASK
                if located[q] < 0 or query_weights[q] * sign < 0 or digit == 0:
                    continue
                if shards.code(table, shard, located[q]) & ENCODING_MASK == DENSE:
                    addresses[terms] = shards.address(table, shard, located[q])
                    digits[terms] = digit
                    factors[terms] = sign << place
                    terms += 1
            while (terms - begun) % 4 != 0:
                addresses[terms] = addresses[terms - 1]
                factors[terms] = factors[terms - 1]
                terms += 1
    return addresses[:terms], digits[:terms], factors[:terms]


@inlined
def _add_columns(
    sums: Any, first: Any, second: Any, third: Any, fourth: Any, digits: Any, factor: int
) -> None:
    """sums += factor * (digits . columns), summed in uint16 and widened once."""
    a, b, c, d = digits[0], digits[1], digits[2], digits[3]
    for ad in range(len(sums)):
        product = np.uint16(
            np.uint16(np.uint16(first[ad]) * a)
            + np.uint16(np.uint16(second[ad]) * b)
            + np.uint16(np.uint16(third[ad]) * c)
            + np.uint16(np.uint16(fourth[ad]) * d)
        )
        sums[ad] += factor * np.int32(product)


@inlined
def _add_bitmap(sums: Any, words: Any, amount: int) -> None:
    whole = len(sums) >> 5
    for w in range(whole):
        word = np.uint32(words[w])
        run = sums[w << 5 : (w << 5) + 32]
        for bit in range(32):
            # The bit moved to the sign, and spread: all ones or all zeros.
            run[bit] += amount & (np.int32(word << np.uint32(31 - bit)) >> 31)
    for ad in range(whole << 5, len(sums)):
        sums[ad] += amount & -np.int32(words[ad >> 5] >> (ad & 31) & 1)


@inlined
def _add_lows(sums: Any, lows: Any, weights: Any, query_weight: int) -> None:
    for p in range(np.uint64(len(lows))):
        sums[lows[p]] += query_weight * np.int32(weights[p])


@inlined
def _add_plain_lows(sums: Any, lows: Any, amount: int) -> None:
    for p in range(np.uint64(len(lows))):
        sums[lows[p]] += amount


@inlined
def _add_gaps(sums: Any, first: int, gaps: Any, weights: Any, query_weight: int) -> None:
    # Every gap but a step ends at a posting; a step's weight is 0.
    slot = np.uint64(first) - np.uint64(1)
    for p in range(np.uint64(len(gaps))):
        slot += np.uint64(gaps[p])
        sums[slot] += query_weight * np.int32(weights[p])


@inlined
def _add_plain_gaps(sums: Any, first: int, gaps: Any, amount: int) -> None:
    slot = np.uint64(first) - np.uint64(1)
    for p in range(np.uint64(len(gaps))):
        slot += np.uint64(gaps[p])
        sums[slot] += amount * np.int32(gaps[p] != GAP_STEP)


@inlined
def _add_raw(sums: Any, address: int, words: int, code: int, start: int, query_weight: int) -> None:
    """Add what a RAW list has of the slots from `start` on that have sums."""
    weighted = np.int64(code & WEIGHTED != 0)
    count = raw_postings(words, code)
    slots = int32s(address, count)
    weights = uint8s(address + 4 * count, count * weighted)
    for p in range(count):
        slot = slots[p] - start
        if 0 <= slot < len(sums):
            weight = np.int32(weights[p]) if weighted else np.int32(FULL_WEIGHT)
            sums[slot] += query_weight * weight


@inlined
def _begun(table: Any, shard: int, located: Any) -> tuple[Any, Any, Any]:
    """Where the entries of the query's lists begin that a row has.

    Returns:
        codes int64, -1 for a list that the shard lacks, and the addresses of
        entries and weights int64, [located] each.
    """
    first_block = table[shard, shards.FIRST_BLOCK]
    blocks = blocks_of(table[shard, shards.SHARD_ADS])
    codes = np.empty(len(located), np.int64)
    entries = np.empty(len(located), np.int64)
    weights = np.empty(len(located), np.int64)
    for q in range(len(located)):
        codes[q] = -1
        if located[q] >= 0:
            codes[q] = shards.code(table, shard, located[q])
            entries[q] = shards.address(table, shard, located[q])
            prefetch(entries[q])
    for q in range(len(located)):
        if codes[q] < 0:
            continue
        encoding = codes[q] & ENCODING_MASK
        if encoding in (U16, U8):
            counts = uint16s(entries[q], blocks)
            width = 2 if encoding == U16 else 1
            entries[q] += (2 if encoding == U16 else 4) * blocks
            weights[q] = entries[q] + width * total(counts)
            before = total(counts[:first_block])
            entries[q] += width * before
            weights[q] += before
        elif encoding == RAW:
            words = shards.words(table, shard, located[q])
            weights[q] = entries[q] + 4 * raw_postings(words, codes[q])
        prefetch(weights[q])
    return codes, entries, weights


@inlined
def _sum_blocks(table: Any, shard: int, located: Any, query_weights: Any, scores: Any) -> None:
    """Write the sums of one row's slots, one cache-sized block at a time."""
    first = table[shard, shards.FIRST_SLOT]
    ads = table[shard, shards.ADS]
    first_block = table[shard, shards.FIRST_BLOCK]
    origin = first_block * BLOCK_SLOTS
    blocks = blocks_of(table[shard, shards.SHARD_ADS])
    codes, entries, weights = _begun(table, shard, located)
    columns, digits, factors = _terms(table, shard, located, query_weights)
    for start in range(0, ads, BLOCK_SLOTS):
        block = first_block + start // BLOCK_SLOTS
        size = min(ads - start, BLOCK_SLOTS)
        sums = scores[first + start : first + start + size]
        sums[:] = 0
        behind = origin + start
        for term in range(0, len(columns), 4):
            _add_columns(
                sums,
                uint8s(columns[term] + behind, size),
                uint8s(columns[term + 1] + behind, size),
                uint8s(columns[term + 2] + behind, size),
                uint8s(columns[term + 3] + behind, size),
                digits[term : term + 4],
                factors[term],
            )
        for q in range(len(located)):
            encoding = codes[q] & ENCODING_MASK
            if codes[q] < 0 or encoding in (DENSE, RAW):
                continue
            if encoding == BITMAP:
                words = uint32s(entries[q] + behind // 8, (size + 31) // 32)
                _add_bitmap(sums, words, query_weights[q] * FULL_WEIGHT)
                continue
            address = shards.address(table, shard, located[q])
            count = np.int64(uint16s(address, blocks)[block])
            if count == 0:
                continue
            weighted = codes[q] & WEIGHTED != 0
            if encoding == U16:
                lows = uint16s(entries[q], count)
                if weighted:
                    _add_lows(sums, lows, uint8s(weights[q], count), query_weights[q])
                else:
                    _add_plain_lows(sums, lows, query_weights[q] * FULL_WEIGHT)
                entries[q] += 2 * count
            else:
                first_low = np.int64(uint16s(address + 2 * blocks, blocks)[block])
                gaps = uint8s(entries[q], count)
                if weighted:
                    own_weights = uint8s(weights[q], count)
                    _add_gaps(sums, first_low, gaps, own_weights, query_weights[q])
                else:
                    _add_plain_gaps(sums, first_low, gaps, query_weights[q] * FULL_WEIGHT)
                entries[q] += count
            weights[q] += count
    for q in range(len(located)):
        if codes[q] >= 0 and codes[q] & ENCODING_MASK == RAW:
            _add_raw(
                scores[first : first + ads],
                entries[q],
                shards.words(table, shard, located[q]),
                codes[q],
                origin,
                query_weights[q],
            )


@inlined
def _touched_out(sums: Any, start: int, touched: Any, scores: Any, begun: Any, count: Any) -> Any:
    """Move the sums of a block's noted slots to `scores`, leaving zeros.

    A slot that was noted twice has sum zero by then and is dropped, as are those
    whose weights cancel out.

    Returns:
        How many slots are noted now.
    """
    kept = begun
    for i in range(begun, count):
        low = np.uint32(touched[i])
        touched[kept] = start + low
        scores[kept] = sums[low]
        kept += np.uint64(sums[low] != 0)
        sums[low] = 0
    return kept


@inlined
def _touch_blocks(
    table: Any,
    shard: int,
    located: Any,
    query_weights: Any,
    sums: Any,
    touched: Any,
    scores: Any,
    noted: int,
) -> Any:
    """Append the slots with postings and their sums, a block at a time.

    The sums of a block stay in a near cache, where those of all slots would not.

    Args:
        table, shard: a whole shard.
        located, query_weights: [Q], the query's lists in it, -1 for none, and weights.
        sums: [BLOCK_SLOTS] int32, zero before and after.
        touched, scores: the results, of which `noted` are there already.
        noted: see above.

    Returns:
        How many there are now.
    """
    first = table[shard, shards.FIRST_SLOT]
    ads = table[shard, shards.ADS]
    blocks = blocks_of(ads)
    codes, entries, weights = _begun(table, shard, located)
    heads = np.empty(len(located), np.int64)
    ends = weights.copy()
    for listed in range(len(located)):
        if codes[listed] >= 0:
            heads[listed] = shards.address(table, shard, located[listed])
    # Lists of one encoding one after the other: no branch to mispredict.
    order = np.argsort(codes, kind="mergesort")[np.count_nonzero(codes < 0) :]
    lows = np.empty(BLOCK_SLOTS, np.uint16)
    own_weights = np.empty(BLOCK_SLOTS, np.uint8)
    count = np.uint64(noted)
    for block in range(blocks):
        start = block * BLOCK_SLOTS
        size = min(ads - start, BLOCK_SLOTS)
        begun = count
        for listed in order:
            q = np.uint64(listed)
            if codes[q] == U16 | WEIGHTED:
                # Most postings of a light query are in such lists: read in place.
                found = np.int64(uint16s(heads[q], blocks)[block])
                found_lows, found_weights = entries[q], weights[q]
                entries[q] += 2 * found
                weights[q] += found
            else:
                found_lows, found_weights = lows.ctypes.data, own_weights.ctypes.data
                found, entries[q], weights[q] = decode_block(
                    codes[q],
                    heads[q],
                    blocks,
                    block,
                    size,
                    entries[q],
                    weights[q],
                    ends[q],
                    lows,
                    own_weights,
                )
            block_lows = uint16s(found_lows, found)
            block_weights = uint8s(found_weights, found)
            for p in range(np.uint64(found)):
                low = block_lows[p]
                # Written in any case and counted if it was zero: nothing to mispredict.
                touched[count] = low
                count += np.uint64(sums[low] == 0)
                sums[low] += query_weights[q] * np.int32(block_weights[p])
        count = _touched_out(sums, first + start, touched, scores, begun, count)
    return np.int64(count)


@inlined
def _postings(table: Any, shard: int, located: Any) -> Any:
    """How many postings located lists have, or a few more."""
    postings = np.int64(0)
    for q in range(len(located)):
        if located[q] >= 0:
            postings += shards.most_postings(table, shard, located[q])
    return postings


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
    touched: Any,
    block_sums: Any,
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
        scores: [N] int32, by slot where there are ads; by place in `touched` if
            the narrow way was taken.
        touched: [>= tail_ads + narrow_limit] int32, the narrow way's slots.
        block_sums: [BLOCK_SLOTS] int32 scratch, all zero before and after.

    Returns:
        How many slots were touched, or -1 if all of `scores` was written.
    """
    postings = np.int64(0)
    for shard in range(table.shape[0]):
        own = located[shard, : len(query_features)]
        shards.locate_all(table, shard, query_features, own)
        postings += _postings(table, shard, own)
    narrow = postings < narrow_limit
    for q in range(len(query_features)):
        weight_of[query_features[q]] = query_weights[q]
    count = np.int64(0)
    for shard in range(table.shape[0]):
        own = located[shard, : len(query_features)]
        if narrow:
            count = _touch_blocks(
                table, shard, own, query_weights, block_sums, touched, scores, count
            )
        else:
            _sum_blocks(table, shard, own, query_weights, scores)
    for ad in range(tail_ads):
        gathered = np.int32(0)
        for p in range(np.uint64(tail_bounds[ad]), np.uint64(tail_bounds[ad + 1])):
            gathered += weight_of[np.uint32(tail_features[p])] * np.int32(tail_weights[p])
        slot = tail_first + ad
        if not narrow:
            scores[slot] = gathered
        elif gathered != 0:
            scores[count] = gathered
            touched[count] = slot
            count += 1
    for q in range(len(query_features)):
        weight_of[query_features[q]] = 0
    return int(count) if narrow else -1


@kernel(fixed(int64, 2), fixed(int32))
def most_postings(table: Any, features: Any) -> int:
    """How many postings some features have in sealed shards, or a few more."""
    postings = np.int64(0)
    located = np.empty(len(features), np.int32)
    for shard in range(table.shape[0]):
        shards.locate_all(table, shard, features, located)
        postings += _postings(table, shard, located)
    return int(postings)
