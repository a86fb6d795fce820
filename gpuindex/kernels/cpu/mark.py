"""Which slots carry some features: what a request's filters look up."""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, int32, int64, kernel, uint8, written


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
        own = marks[table[shard, shards.FIRST_SLOT] :]
        slots = np.empty(table[shard, shards.ADS], np.int32)
        weights = np.empty(len(slots), np.uint8)
        for w in range(len(wanted)):
            listed = shards.locate(table, shard, wanted[w])
            if listed >= 0:
                found = shards.decode(table, shard, listed, slots, weights)
                for p in range(found):
                    own[slots[p]] = value
    for ad in range(tail_ads):
        for p in range(tail_bounds[ad], tail_bounds[ad + 1]):
            place = np.searchsorted(wanted, tail_features[p])
            if place < len(wanted) and wanted[place] == tail_features[p]:
                marks[tail_first + ad] = value
