"""The embedding product and the bias on a GPU: a warp per slot.

The lanes of a warp read one ad's embedding side by side and add up their
products by shuffles, so a row of any width costs whole sectors only.
"""

from typing import Any

import numpy as np
from numba import cuda

from ..cpu.shards import ADS, FIRST_SLOT, PAGE_SLOTS
from . import shards
from .compiled import FULL_WARP, WARP_LANES, array, float32, int16, int32, int64, kernel, load
from .device import current, spread

THREADS = 256


@kernel(
    array(int64, 2),
    int64,
    int64,
    int64,
    array(int16),
    int32,
    float32,
    array(int32),
    array(float32, 2),
    array(int32),
    threads=THREADS,
    registers=56,
)
def add_products(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_embeddings: int,
    vector: Any,
    multiplier: int,
    bias_factor: float,
    pages: Any,
    biases: Any,
    scores: Any,
) -> None:
    """See `dense`; `tail_embeddings` is an address."""
    lane = cuda.laneid
    width = vector.shape[0]
    for part in range(table.shape[0] + 1):
        if part < table.shape[0]:
            first = table[part, FIRST_SLOT]
            ads = table[part, ADS]
        else:
            first = np.int64(tail_first)
            ads = np.int64(tail_ads)
        ad = np.int64(cuda.grid(1) // WARP_LANES)
        while ad < ads:
            if part < table.shape[0]:
                row = shards.embedding(table, part, ad, width)
            else:
                row = tail_embeddings + ad * width
            product = np.int32(0)
            d = lane
            while d < width:
                product = np.int32(product + load(row + d, np.int8) * vector[d])
                d += WARP_LANES
            reach = WARP_LANES // 2
            while reach > 0:
                product = np.int32(product + cuda.shfl_xor_sync(FULL_WARP, product, reach))
                reach //= 2
            if lane == 0:
                slot = first + ad
                total = np.int32(scores[slot] * multiplier + product)
                if bias_factor != 0:
                    bias = biases[pages[slot // PAGE_SLOTS], slot % PAGE_SLOTS]
                    total = np.int32(total + cuda.libdevice.float2int_rn(bias * bias_factor))
                scores[slot] = total
            ad += cuda.gridsize(1) // WARP_LANES


def dense(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_embeddings: Any,
    vector: Any,
    multiplier: int,
    bias_factor: float,
    pages: Any,
    biases: Any,
    scores: Any,
) -> None:
    """scores = multiplier * scores + embedding . vector + round(bias * factor).

    Arguments as in the CPU twin, in device memory.
    """
    spread(
        add_products,
        len(scores),
        table,
        tail_first,
        tail_ads,
        current().address(tail_embeddings),
        vector,
        multiplier,
        np.float32(bias_factor),
        pages,
        biases,
        scores,
        lanes=WARP_LANES,
    )
