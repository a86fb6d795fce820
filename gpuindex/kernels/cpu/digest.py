"""Hashes of ads that come out the same whatever slots and numbers they have.

A posting's hash is of its feature's name and weight, and an ad's postings are
summed, so that the order of lists and of ads does not matter.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, int32, int64, kernel, uint8, uint64, written
from .draws import mixed


@kernel(
    fixed(int64, 2),
    int64,
    int64,
    fixed(int64),
    fixed(int32),
    fixed(uint8),
    fixed(uint64),
    written(uint64),
)
def sum_postings(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_bounds: Any,
    tail_features: Any,
    tail_weights: Any,
    names: Any,
    sums: Any,
) -> None:
    """Add the hash of every posting to its slot's sum, modulo 2^64.

    Args:
        table, tail_first, tail_ads, tail_bounds, tail_features, tail_weights: as
            in `score`.
        names: [features] uint64, a hash of each feature's name.
        sums: [N] uint64 by slot.
    """
    for shard in range(table.shape[0]):
        own = sums[table[shard, shards.FIRST_SLOT] :]
        listed = shards.features(table, shard)
        slots = np.empty(table[shard, shards.ADS], np.int32)
        weights = np.empty(len(slots), np.uint8)
        for position in range(len(listed)):
            name = names[listed[position]]
            found = shards.decode(table, shard, position, slots, weights)
            for p in range(found):
                own[slots[p]] += mixed(name ^ np.uint64(weights[p]))
    for ad in range(tail_ads):
        for p in range(tail_bounds[ad], tail_bounds[ad + 1]):
            posting = names[tail_features[p]] ^ np.uint64(tail_weights[p])
            sums[tail_first + ad] += mixed(posting)


@kernel(written(uint64), fixed(uint64))
def chain(hashes: Any, values: Any) -> None:
    """Take a value into each hash: [n] uint64 and [n] uint64."""
    for i in range(len(hashes)):
        hashes[i] = mixed(hashes[i] ^ values[i])


@kernel(written(uint64), fixed(uint8, 2))
def chain_bytes(hashes: Any, rows: Any) -> None:
    """Take a row of bytes into each hash: [n] uint64 and [n, D] uint8."""
    for i in range(len(hashes)):
        for d in range(rows.shape[1]):
            hashes[i] = mixed(hashes[i] ^ np.uint64(rows[i, d]))
