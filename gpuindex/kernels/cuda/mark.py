"""Marks at the slots that carry some features, on a GPU.

A mark is a byte, and lists of one query may meet at a slot, so that several
threads write it: they do so by atomics on the word that holds it.
"""

from typing import Any

import numpy as np
from numba import cuda

from . import shards
from .compiled import WARP_LANES, array, inlined, int32, int64, kernel, uint8, uint32
from .device import spread
from .lists import reader

THREADS = 128

ALL_BITS = 0xFFFFFFFF


@inlined
def put_mark(slot: int, weight: int, context: Any) -> None:
    """Set the byte of a posting's slot to a value; every thread sets the same one."""
    words, value = context
    shift = (np.int64(slot) & 3) * 8
    cuda.atomic.and_(words, slot >> 2, np.uint32(ALL_BITS - (255 << shift)))
    cuda.atomic.or_(words, slot >> 2, np.uint32(np.int64(value) << shift))


read_and_mark = reader(put_mark)


@kernel(array(int64, 2), array(int32), uint8, array(uint32), threads=THREADS, registers=96)
def mark_lists(table: Any, wanted: Any, value: int, words: Any) -> None:
    """Mark every sealed shard's slots, a warp per shard and feature.

    Args:
        table, wanted, value: as in `mark`.
        words: [N / 4] uint32, the memory of the marks.
    """
    item = np.int64(cuda.grid(1) // WARP_LANES)
    while item < table.shape[0] * wanted.shape[0]:
        shard = item // wanted.shape[0]
        feature = wanted[item - shard * wanted.shape[0]]
        listed = shards.locate(table, shard, feature)
        read_and_mark(table, shard, listed, (words, value))
        item += cuda.gridsize(1) // WARP_LANES


@kernel(
    int64,
    int64,
    array(int64),
    array(int32),
    array(int32),
    uint8,
    array(uint8),
    threads=THREADS,
    registers=32,
)
def mark_tail(
    tail_first: int,
    tail_ads: int,
    tail_bounds: Any,
    tail_features: Any,
    wanted: Any,
    value: int,
    marks: Any,
) -> None:
    """Mark the tail's slots, a thread per ad; arguments as in `mark`."""
    ad = np.int64(cuda.grid(1))
    while ad < tail_ads:
        found = False
        for p in range(tail_bounds[ad], tail_bounds[ad + 1]):
            low = 0
            high = wanted.shape[0]
            while low < high:
                middle = (low + high) // 2
                if wanted[middle] < tail_features[p]:
                    low = middle + 1
                else:
                    high = middle
            if low < wanted.shape[0] and wanted[low] == tail_features[p]:
                found = True
        if found:
            marks[tail_first + ad] = value
        ad += cuda.gridsize(1)


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

    Arguments as in the CPU twin, in device memory; `marks` is a whole number of
    words, as the slots of a view are.
    """
    lists = table.shape[0] * len(wanted)
    words = marks.view(np.uint32)
    spread(mark_lists, lists, table, wanted, value, words, lanes=WARP_LANES)
    if tail_ads:
        tail = (tail_first, tail_ads, tail_bounds, tail_features)
        spread(mark_tail, tail_ads, *tail, wanted, value, marks)
