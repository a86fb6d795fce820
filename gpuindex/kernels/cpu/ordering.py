"""Ordering of candidates packed as one int64, the score above the slot.

Slots have 31 bits; the one between marks a candidate that may be ineligible.
"""

from typing import Any

import numpy as np

from .compiled import inlined

SLOT_BITS = 32
UNTESTED = 1 << (SLOT_BITS - 1)
SLOT_MASK = UNTESTED - 1

# Scores are sorted by digits of this many bits, lowest first.
SORT_BITS = 8


@inlined
def select(keys: Any, count: int, k: int) -> None:
    """Bring the k greatest of the first `count` keys to the front, k-th last.

    Keys are distinct. The inner loop swaps at every step and moves the edge by
    the outcome of a comparison: no branch that could be mispredicted. Its indices
    are unsigned, see `score`, which makes it 1.7 times as fast.
    """
    low = 0
    high = count - 1
    while low < high:
        middle = (low + high) // 2
        a, b, c = keys[low], keys[middle], keys[high]
        if (a < b) == (b < c):
            keys[low], keys[middle] = b, a
        elif (b < a) != (a < c):
            keys[low], keys[high] = c, a
        pivot = keys[low]
        behind = np.uint64(low + 1)
        for i in range(np.uint64(low + 1), np.uint64(high + 1)):
            key = keys[i]
            keys[i] = keys[behind]
            keys[behind] = key
            behind += np.uint64(key > pivot)
        edge: Any = np.int64(behind) - 1
        keys[low] = keys[edge]
        keys[edge] = pivot
        if edge == k - 1:
            return
        if edge < k - 1:
            low = edge + 1
        else:
            high = edge - 1


@inlined
def sort_by_score(keys: Any, count: int) -> None:
    """Sort the first `count` keys by falling score."""
    other = np.empty(count, np.int64)
    places = np.empty((1 << SORT_BITS) + 1, np.int64)
    mask = np.int64((1 << SORT_BITS) - 1)
    for shift in range(SLOT_BITS, 2 * SLOT_BITS, SORT_BITS):
        # Inverted, digits rise as scores fall; the sign bit counts downwards,
        # so the highest digit needs only that bit turned back.
        turned = mask if shift < 2 * SLOT_BITS - SORT_BITS else mask >> 1
        places[:] = 0
        for i in range(count):
            places[((keys[i] >> shift & mask) ^ turned) + 1] += 1
        for digit in range(mask):
            places[digit + 1] += places[digit]
        for i in range(count):
            digit = (keys[i] >> shift & mask) ^ turned
            other[places[digit]] = keys[i]
            places[digit] += 1
        keys[:count] = other


@inlined
def sort_by_ad(keys: Any, ads: Any) -> None:
    """Sort keys by rising ad id (Shell's sort: short, and runs are short)."""
    gap = 1
    while gap < len(ads):
        gap = 3 * gap + 1
    while gap > 1:
        gap //= 3
        for i in range(gap, len(ads)):
            key, ad = keys[i], ads[i]
            j = i
            while j >= gap and ads[j - gap] > ad:
                keys[j], ads[j] = keys[j - gap], ads[j - gap]
                j -= gap
            keys[j], ads[j] = key, ad
