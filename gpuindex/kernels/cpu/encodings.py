"""How a posting list is stored: one of five encodings, chosen by price.

A list is the ascending slots of a shard's ads that carry a feature, and their
weights unless all are 255. In memory, one array after the other:

    RAW     int32 slots; uint8 weights
    U16     per block a uint16 count; uint16 slots within the block; weights
    U8      per block a uint16 count, per block its first slot as a uint16
            within it; uint8 gaps from slot to slot; weights
    BITMAP  a bit for every slot of the shard, never weighted
    DENSE   a uint8 weight for every slot of the shard, 0 = absent

RAW has no pointers at all, which is what lists of a few ads need. A U8 gap
counts from the slot before, and is 1 for the first slot of a block; 255 is no
posting, only a step, and has weight 0 where there are weights. So a slot
costs 8 bits, as the low 8 bits within blocks of 256 slots would, and nothing
is spent on saying where such a block begins.
"""

from typing import Any

import numpy as np
from numba import carray

from .compiled import fixed, inlined, int32, int64, kernel, uint8, void_pointer

RAW, U16, U8, BITMAP, DENSE = range(5)
NAMES = ("RAW", "U16", "U8", "BITMAP", "DENSE")
# A list's code is its encoding, with this bit if weights are stored.
WEIGHTED = 8
ENCODING_MASK = 7

# A block is the unit of accumulation: its int32 scores fit the L2 cache and a
# slot inside it fits 16 bits. 255 pages rather than 256, so that even the
# count of a full list's postings in a block fits a uint16.
PAGE_SLOTS = 256
BLOCK_SLOTS = 255 * PAGE_SLOTS

GAP_STEP = 255
FULL_WEIGHT = 255

# Lists begin at whole words: a RAW list's slots must be aligned, and an int32
# of words then reaches over 8 GiB.
WORD_BYTES = 4

# Nanoseconds of a heavy query by encoding, per posting for the first three and
# per slot for the others (`python -m benchmarks.encodings`). RAW lists are
# rare ones, whose every posting is a cache miss.
RAW_NS = 2.5
U16_NS = 0.42
U8_NS = 0.4
BITMAP_NS = 0.05
DENSE_NS = 0.042
# What a list takes to begin in each block.
BLOCK_NS = 5.0
# What a byte of the index is worth, in the same nanoseconds. At this price
# weighted lists become columns above a fifth of the ads.
BYTE_NS = 0.08


@inlined
def blocks_of(ads: int) -> Any:
    """How many blocks some slots take."""
    return (ads + BLOCK_SLOTS - 1) // BLOCK_SLOTS


@inlined
def int64s(address: int, count: int) -> Any:
    """[count] int64 at an address."""
    return carray(void_pointer(address), (count,), np.int64)


@inlined
def int32s(address: int, count: int) -> Any:
    """[count] int32 at an address."""
    return carray(void_pointer(address), (count,), np.int32)


@inlined
def uint32s(address: int, count: int) -> Any:
    """[count] uint32 at an address."""
    return carray(void_pointer(address), (count,), np.uint32)


@inlined
def uint16s(address: int, count: int) -> Any:
    """[count] uint16 at an address."""
    return carray(void_pointer(address), (count,), np.uint16)


@inlined
def uint8s(address: int, count: int) -> Any:
    """[count] uint8 at an address."""
    return carray(void_pointer(address), (count,), np.uint8)


@inlined
def _gaps(slots: Any) -> Any:
    """How many U8 gaps a list takes, steps included."""
    gaps = len(slots)
    block = -1
    before = 0
    for p in range(len(slots)):
        slot = slots[p]
        if slot // BLOCK_SLOTS != block:
            block = slot // BLOCK_SLOTS
            before = slot - 1
        gaps += (slot - before) // GAP_STEP
        before = slot
    return gaps


@inlined
def _size(postings: int, gaps: int, code: int, ads: int) -> Any:
    """Bytes of a list of so many postings, which would take so many U8 gaps."""
    encoding = code & ENCODING_MASK
    weighted = np.int64(code & WEIGHTED != 0)
    if encoding == RAW:
        return (4 + weighted) * postings
    if encoding == U16:
        return 2 * blocks_of(ads) + (2 + weighted) * postings
    if encoding == U8:
        return 4 * blocks_of(ads) + (1 + weighted) * gaps
    if encoding == BITMAP:
        return (ads + 7) // 8
    return ads


@inlined
def size_of(slots: Any, code: int, ads: int) -> Any:
    """Bytes of a list."""
    gaps = _gaps(slots) if code & ENCODING_MASK == U8 else 0
    return _size(len(slots), gaps, code, ads)


@inlined
def _query_ns(postings: int, gaps: int, code: int, ads: int) -> Any:
    """About the time that a list takes in a heavy query."""
    encoding = code & ENCODING_MASK
    begun = BLOCK_NS * blocks_of(ads)
    if encoding == RAW:
        return RAW_NS * postings
    if encoding == U16:
        return begun + U16_NS * postings
    if encoding == U8:
        return begun + U8_NS * gaps
    if encoding == BITMAP:
        return BITMAP_NS * ads
    return DENSE_NS * ads


@inlined
def choose(slots: Any, weights: Any, ads: int) -> tuple[Any, Any]:
    """The code of the cheapest encoding of a list, and its size in words.

    Its price is the time of a heavy query that names the list, and its bytes.
    """
    postings = len(slots)
    plain = np.uint8(FULL_WEIGHT)
    for p in range(np.uint64(postings)):
        plain &= weights[p]
    weighted = plain != FULL_WEIGHT
    # Otherwise it takes so many steps that U16 is smaller: not worth counting them.
    near = GAP_STEP * postings >= slots[-1] - slots[0]
    gaps = _gaps(slots) if near else 0
    chosen = 0
    least = np.inf
    for encoding in (RAW, U16, U8, BITMAP, DENSE):
        code = encoding | (WEIGHTED if weighted or encoding == DENSE else 0)
        if (encoding == BITMAP and weighted) or (encoding == U8 and not near):
            continue
        size = _size(postings, gaps, code, ads)
        price = _query_ns(postings, gaps, code, ads) + BYTE_NS * size
        if price < least:
            chosen, least = code, price
    return chosen, (_size(postings, gaps, chosen, ads) + WORD_BYTES - 1) // WORD_BYTES


@inlined
def encode(slots: Any, weights: Any, ads: int, code: int, address: int) -> None:
    """Write a list at an address, where there are zeros."""
    encoding = code & ENCODING_MASK
    postings = len(slots)
    blocks = blocks_of(ads)
    behind = address + 2 * blocks
    if encoding == DENSE:
        column = uint8s(address, ads)
        for p in range(postings):
            column[slots[p]] = weights[p]
        return
    if encoding == BITMAP:
        bits = uint8s(address, (ads + 7) // 8)
        for p in range(postings):
            bits[slots[p] >> 3] |= np.uint8(1 << (slots[p] & 7))
        return
    if encoding == RAW:
        int32s(address, postings)[:] = slots
        weights_address = address + 4 * postings
    elif encoding == U16:
        counts = uint16s(address, blocks)
        lows = uint16s(behind, postings)
        for p in range(postings):
            block = slots[p] // BLOCK_SLOTS
            counts[block] += 1
            lows[p] = slots[p] - block * BLOCK_SLOTS
        weights_address = behind + 2 * postings
    else:
        _encode_gaps(slots, weights, ads, code, address)
        return
    if code & WEIGHTED:
        uint8s(weights_address, postings)[:] = weights


@inlined
def _encode_gaps(slots: Any, weights: Any, ads: int, code: int, address: int) -> None:
    blocks = blocks_of(ads)
    count = _gaps(slots)
    behind = address + 4 * blocks
    counts = uint16s(address, blocks)
    firsts = uint16s(address + 2 * blocks, blocks)
    gaps = uint8s(behind, count)
    gap_weights = uint8s(behind + count, count if code & WEIGHTED else 0)
    place = 0
    current = -1
    before = 0
    for p in range(len(slots)):
        block = slots[p] // BLOCK_SLOTS
        if block != current:
            current = block
            firsts[block] = slots[p] - block * BLOCK_SLOTS
            before = slots[p] - 1
        gap = slots[p] - before
        begun = place
        while gap >= GAP_STEP:
            gaps[place] = GAP_STEP
            place += 1
            gap -= GAP_STEP
        gaps[place] = gap
        if code & WEIGHTED:
            gap_weights[place] = weights[p]
        place += 1
        counts[block] += place - begun
        before = slots[p]


@inlined
def total(counts: Any) -> Any:
    """The sum of a list's counts by block."""
    entries = np.int64(0)
    for block in range(len(counts)):
        entries += counts[block]
    return entries


@inlined
def decode(address: int, words: int, code: int, ads: int, slots: Any, weights: Any) -> Any:
    """Read a list back.

    Args:
        address: where it begins.
        words: its size.
        code: its code.
        ads: slots of the shard.
        slots: the result, as are the weights, [>= entries] each.
        weights: see slots.

    Returns:
        How many postings there are.
    """
    encoding = code & ENCODING_MASK
    weighted = np.int64(code & WEIGHTED != 0)
    blocks = blocks_of(ads)
    found = np.int64(0)
    if encoding == DENSE:
        column = uint8s(address, ads)
        for slot in range(ads):
            slots[found] = slot
            weights[found] = column[slot]
            found += column[slot] != 0
        return found
    if encoding == BITMAP:
        bits = uint8s(address, (ads + 7) // 8)
        for slot in range(ads):
            slots[found] = slot
            weights[found] = FULL_WEIGHT
            found += bits[slot >> 3] >> (slot & 7) & 1
        return found
    if encoding == RAW:
        found = raw_postings(words, code)
        raw = int32s(address, found)
        for p in range(np.uint64(found)):
            slots[p] = raw[p]
        weights_address = address + 4 * found
    elif encoding == U16:
        counts = uint16s(address, blocks)
        entries = total(counts)
        lows = uint16s(address + 2 * blocks, entries)
        for block in range(blocks):
            behind = found + counts[block]
            for p in range(np.uint64(found), np.uint64(behind)):
                slots[p] = block * BLOCK_SLOTS + np.int32(lows[p])
            found = behind
        weights_address = address + 2 * (blocks + entries)
    else:
        return _decode_gaps(address, code, blocks, slots, weights)
    own = uint8s(weights_address, found * weighted)
    for p in range(np.uint64(found)):
        weights[p] = own[p] if weighted else np.uint8(FULL_WEIGHT)
    return found


@inlined
def _decode_gaps(address: int, code: int, blocks: int, slots: Any, weights: Any) -> Any:
    counts = uint16s(address, blocks)
    entries = total(counts)
    firsts = uint16s(address + 2 * blocks, blocks)
    behind = address + 4 * blocks
    gaps = uint8s(behind, entries)
    weighted = code & WEIGHTED != 0
    gap_weights = uint8s(behind + entries, entries if weighted else 0)
    found = np.uint64(0)
    place: Any = np.uint64(0)
    for block in range(blocks):
        slot = block * BLOCK_SLOTS + np.int64(firsts[block]) - 1
        behind = place + np.uint64(counts[block])
        for p in range(place, behind):
            slot += np.int64(gaps[p])
            slots[found] = slot
            weights[found] = gap_weights[p] if weighted else FULL_WEIGHT
            found += np.uint64(gaps[p] != GAP_STEP)
        place = behind
    return np.int64(found)


@inlined
def raw_postings(words: int, code: int) -> Any:
    """How many postings a RAW list has; its padding is shorter than a posting."""
    return WORD_BYTES * words // (4 + np.int64(code & WEIGHTED != 0))


@inlined
def decode_block(
    code: int,
    address: int,
    blocks: int,
    block: int,
    size: int,
    entries: int,
    weights: int,
    end: int,
    lows: Any,
    own_weights: Any,
) -> tuple[Any, Any, Any]:
    """Read what a list has in a block; blocks are read in their order.

    Args:
        code, address: the list's.
        blocks, block, size: how many the list has, which one, and its slots.
        entries, weights: addresses where the block's entries and weights begin.
        end: where the list's entries end, if it is RAW.
        lows: [>= size] uint16, the result: slots within the block.
        own_weights: [>= size] uint8, likewise.

    Returns:
        How many postings there are, and where entries and weights go on.
    """
    encoding = code & ENCODING_MASK
    weighted = np.int64(code & WEIGHTED != 0)
    found = np.uint64(0)
    begin = block * BLOCK_SLOTS
    if encoding == DENSE:
        column = uint8s(address + begin, size)
        for low in range(np.uint64(size)):
            lows[found] = low
            own_weights[found] = column[low]
            found += np.uint64(column[low] != 0)
        return np.int64(found), entries, weights
    if encoding == BITMAP:
        bits = uint8s(address + begin // 8, (size + 7) // 8)
        for low in range(np.uint64(size)):
            lows[found] = low
            own_weights[found] = FULL_WEIGHT
            found += np.uint64(bits[low >> np.uint64(3)] >> (low & np.uint64(7)) & 1)
        return np.int64(found), entries, weights
    if encoding == U8:
        taken = np.int64(uint16s(address, blocks)[block])
        gaps = uint8s(entries, taken)
        gap_weights = uint8s(weights, taken * weighted)
        slot = np.uint64(uint16s(address + 2 * blocks, blocks)[block]) - np.uint64(1)
        for p in range(np.uint64(taken)):
            slot += np.uint64(gaps[p])
            lows[found] = slot
            own_weights[found] = gap_weights[p] if weighted else FULL_WEIGHT
            found += np.uint64(gaps[p] != GAP_STEP)
        return np.int64(found), entries + taken, weights + taken
    if encoding == U16:
        taken = np.int64(uint16s(address, blocks)[block])
        lows[:taken] = uint16s(entries, taken)
        width = 2
    else:
        slots = int32s(entries, (end - entries) // 4)
        taken = np.int64(0)
        while taken < len(slots) and slots[taken] < begin + size:
            lows[taken] = slots[taken] - begin
            taken += 1
        width = 4
    for p in range(taken):
        own_weights[p] = uint8s(weights, taken)[p] if weighted else FULL_WEIGHT
    return taken, entries + width * taken, weights + taken


@inlined
def most_postings(words: int, code: int, ads: int) -> Any:
    """How many postings a list has, or a few more."""
    encoding = code & ENCODING_MASK
    if encoding in (DENSE, BITMAP):
        return np.int64(ads)
    weighted = np.int64(code & WEIGHTED != 0)
    if encoding == RAW:
        return raw_postings(words, code)
    if encoding == U16:
        return (WORD_BYTES * words - 2 * blocks_of(ads)) // (2 + weighted)
    return (WORD_BYTES * words - 4 * blocks_of(ads)) // (1 + weighted)


@kernel(fixed(int32), fixed(int32), fixed(uint8), int64, int64)
def read(starts: Any, data: Any, codes: Any, listed: int, ads: int) -> tuple[Any, Any]:
    """Slots int32 and weights uint8 of one list.

    Args:
        starts: [L + 1] int32, each list's range of words.
        data: [W] int32.
        codes: [L] uint8.
        listed: which list.
        ads: slots of the shard.
    """
    slots = np.empty(ads, np.int32)
    weights = np.empty(ads, np.uint8)
    found = decode(
        data.ctypes.data + WORD_BYTES * np.int64(starts[listed]),
        np.int64(starts[listed + 1] - starts[listed]),
        np.int64(codes[listed]),
        ads,
        slots,
        weights,
    )
    return slots[:found].copy(), weights[:found].copy()
