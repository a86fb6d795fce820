"""Posting lists encoded on a GPU: the price of each encoding, then the bytes.

Encodings and prices are the CPU's (`cpu.encodings`), and so are the choices and
the bytes: the arithmetic of a price is the same, step by step.
"""

from typing import Any

import numpy as np
from numba import cuda

from ..cpu.encodings import (
    BITMAP,
    BITMAP_NS,
    BLOCK_NS,
    BLOCK_SLOTS,
    BYTE_NS,
    DENSE,
    DENSE_NS,
    ENCODING_MASK,
    FULL_WEIGHT,
    GAP_STEP,
    RAW,
    RAW_NS,
    U8,
    U8_NS,
    U16,
    U16_NS,
    WEIGHTED,
    WORD_BYTES,
)
from .compiled import array, int32, int64, kernel, uint8, uint32
from .device import current, spread

THREADS = 256


@kernel(
    int64,
    array(int32),
    array(int64),
    array(int32),
    array(int32),
    array(uint8),
    array(int64),
    array(uint8),
    array(int32),
    array(int32, 2),
    array(int32, 2),
    array(uint32),
    array(uint8),
    threads=THREADS,
    registers=48,
)
def write_postings(
    blocks: int,
    lists: Any,
    bounds: Any,
    slots: Any,
    gaps: Any,
    weights: Any,
    entries: Any,
    codes: Any,
    starts: Any,
    counts: Any,
    firsts: Any,
    words: Any,
    octets: Any,
) -> None:
    """Write every posting where its list's encoding wants it, a thread each.

    Args:
        blocks: B.
        lists to weights: as in `encoded`.
        gaps: [P] int32, the slot less the one before, see `cpu.encodings`.
        entries: [P + 1] int64, running total of U8 entries.
        codes: [L] uint8.
        starts: [L + 1] int32.
        counts: [L, B] int32, zero before: entries of U16 and U8 lists.
        firsts: [L, B] int32, BLOCK_SLOTS before: first slots of U8 lists.
        words: [W] uint32, zero before, the lists.
        octets: [4 W] uint8, the same memory.
    """
    p = np.int64(cuda.grid(1))
    while p < lists.shape[0]:
        listed = lists[p]
        slot = np.int64(slots[p])
        encoding = codes[listed] & ENCODING_MASK
        begin = WORD_BYTES * np.int64(starts[listed])
        place = p - bounds[listed]
        behind = bounds[listed + 1] - bounds[listed]
        # Where the weight goes, if weights are stored.
        weight_at = begin
        if encoding == DENSE:
            weight_at = begin + slot
        elif encoding == BITMAP:
            bit = np.uint32(np.uint32(1) << np.uint32(slot & 31))
            cuda.atomic.or_(words, starts[listed] + (slot >> 5), bit)
        elif encoding == RAW:
            words[starts[listed] + place] = slot
            weight_at = begin + 4 * behind + place
        elif encoding == U16:
            block = slot // BLOCK_SLOTS
            low = slot - block * BLOCK_SLOTS
            at = begin + 2 * blocks + 2 * place
            octets[at] = low & 255
            octets[at + 1] = low >> 8
            weight_at = begin + 2 * blocks + 2 * behind + place
            cuda.atomic.add(counts, (listed, block), 1)
        else:
            steps = gaps[p] // GAP_STEP
            place = entries[p] - entries[bounds[listed]]
            behind = entries[bounds[listed + 1]] - entries[bounds[listed]]
            block = slot // BLOCK_SLOTS
            at = begin + 4 * blocks + place
            for step in range(steps):
                octets[at + step] = GAP_STEP
            octets[at + steps] = gaps[p] - GAP_STEP * steps
            weight_at = at + behind + steps
            cuda.atomic.add(counts, (listed, block), steps + 1)
            cuda.atomic.min(firsts, (listed, block), slot - block * BLOCK_SLOTS)
        if codes[listed] & WEIGHTED:
            octets[weight_at] = weights[p]
        p += cuda.gridsize(1)


@kernel(
    array(uint8),
    array(int32),
    array(int32, 2),
    array(int32, 2),
    array(uint8),
    threads=THREADS,
    registers=32,
)
def write_blocks(codes: Any, starts: Any, counts: Any, firsts: Any, octets: Any) -> None:
    """Write what U16 and U8 lists say of each block, a thread each.

    Args:
        codes to octets: from `write_postings`.
    """
    blocks = counts.shape[1]
    item = np.int64(cuda.grid(1))
    while item < counts.shape[0] * blocks:
        listed = item // blocks
        block = item - listed * blocks
        encoding = codes[listed] & ENCODING_MASK
        if encoding in (U16, U8):
            count = counts[listed, block]
            at = WORD_BYTES * np.int64(starts[listed]) + 2 * block
            octets[at] = count & 255
            octets[at + 1] = count >> 8
            if encoding == U8 and count > 0:
                first = firsts[listed, block]
                octets[at + 2 * blocks] = first & 255
                octets[at + 2 * blocks + 1] = first >> 8
        item += cuda.gridsize(1)


def encoded(ads: int, lists: Any, bounds: Any, slots: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Encode lists, each by its price.

    L lists, P postings, W words, of a shard of A ads in B blocks.

    Args:
        ads: A.
        lists: [P] int32, ascending; none of the L is empty.
        bounds: [L + 1] int64, each list's range of postings.
        slots: [P] int32, ascending within a list.
        weights: [P] uint8.

    Returns:
        starts [L + 1] int32, codes [L] uint8, data [W] int32: see `cpu.encodings`.
    """
    arrays = current().arrays
    blocks = -(-ads // BLOCK_SLOTS)
    gaps = _gaps(lists, slots)
    entries = _running(gaps // GAP_STEP + 1)
    partial = _running(weights != FULL_WEIGHT)
    postings = bounds[1:] - bounds[:-1]
    codes, sizes = _choices(
        ads,
        postings,
        entries[bounds[1:]] - entries[bounds[:-1]],
        partial[bounds[1:]] - partial[bounds[:-1]] > 0,
        slots[bounds[1:] - 1] - slots[bounds[:-1]],
    )
    starts = _running((sizes + WORD_BYTES - 1) // WORD_BYTES).astype(np.int32)
    data = arrays.zeros(int(starts[-1]), np.int32)
    counts = arrays.zeros((len(postings), blocks), np.int32)
    firsts = arrays.full((len(postings), blocks), BLOCK_SLOTS, np.int32)
    octets = data.view(np.uint8)
    spread(
        write_postings,
        len(slots),
        blocks,
        lists,
        bounds,
        slots,
        gaps,
        weights,
        entries,
        codes,
        starts,
        counts,
        firsts,
        data.view(np.uint32),
        octets,
    )
    spread(write_blocks, counts.size, codes, starts, counts, firsts, octets)
    return starts, codes, data


def _running(values: Any) -> Any:
    """[n + 1] int64, the sums of the first 0..n values."""
    arrays = current().arrays
    sums = arrays.zeros(len(values) + 1, np.int64)
    sums[1:] = arrays.cumsum(values)
    return sums


def _gaps(lists: Any, slots: Any) -> Any:
    """[P] int32, from the slot before in the list and block, 1 if there is none."""
    arrays = current().arrays
    own = slots // BLOCK_SLOTS
    follows = (lists[1:] == lists[:-1]) & (own[1:] == own[:-1])
    gaps = arrays.ones(len(slots), np.int32)
    gaps[1:] = arrays.where(follows, slots[1:] - slots[:-1], 1)
    return gaps


def _choices(ads: int, postings: Any, entries: Any, weighted: Any, reach: Any) -> tuple[Any, Any]:
    """[L] uint8 codes and int64 bytes of the cheapest encoding of each list.

    Args:
        ads: A.
        postings: [L] int64.
        entries: [L] int64, as U8.
        weighted: [L] bool, whether any weight is not full.
        reach: [L] int32, from the first slot to the last.
    """
    arrays = current().arrays
    blocks = -(-ads // BLOCK_SLOTS)
    one = weighted.astype(np.int64)
    whole = arrays.full(len(postings), ads, np.int64)
    sizes = arrays.stack(
        (
            (4 + one) * postings,
            2 * blocks + (2 + one) * postings,
            4 * blocks + (1 + one) * entries,
            (whole + 7) // 8,
            whole,
        )
    )
    begun = BLOCK_NS * blocks
    times = arrays.stack(
        (
            RAW_NS * postings,
            begun + U16_NS * postings,
            begun + U8_NS * entries,
            BITMAP_NS * whole,
            DENSE_NS * whole,
        )
    )
    prices = times + BYTE_NS * sizes
    prices[U8] = arrays.where(GAP_STEP * postings < reach, np.inf, prices[U8])
    prices[BITMAP] = arrays.where(weighted, np.inf, prices[BITMAP])
    best = prices.argmin(axis=0)
    codes = arrays.where(weighted | (best == DENSE), best | WEIGHTED, best).astype(np.uint8)
    return codes, sizes[best, arrays.arange(len(postings))]
