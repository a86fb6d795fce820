"""Posting lists back to ad-major features, so that shards can be merged."""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, int64, kernel, uint8


@kernel(fixed(int64, 2), int64, fixed(uint8))
def unpack(table: Any, shard: int, keep: Any) -> tuple[Any, Any, Any]:
    """Read the features of a shard's kept ads, the ads closing ranks.

    A ads, K of them kept, P postings of those.

    Args:
        table: [S, FIELDS] int64, the shard table.
        shard: which row of it.
        keep: [A] uint8, 0 leaves the ad out.

    Returns:
        bounds [K + 1] int64, features [P] int32, weights [P] uint8.
    """
    ads = table[shard, shards.ADS]
    column_features = shards.column_features(table, shard)
    features = shards.features(table, shard)
    bounds = shards.bounds(table, shard)
    counts = shards.counts(table, shard)
    sizes = np.zeros(ads, np.int64)
    for c in range(len(column_features)):
        column = shards.column(table, shard, c, 0, ads)
        for ad in range(ads):
            if column[ad] != 0:
                sizes[ad] += 1
    for listed in range(len(features)):
        cursor = np.int64(bounds[listed])
        for block in range(counts.shape[1]):
            stop = cursor + counts[listed, block]
            for low in shards.lows(table, shard, cursor, stop):
                sizes[block * shards.BLOCK_SLOTS + low] += 1
            cursor = stop
    kept = 0
    for ad in range(ads):
        kept += keep[ad] != 0
    out_bounds = np.zeros(kept + 1, np.int64)
    cursors = np.empty(ads, np.int64)
    kept = 0
    for ad in range(ads):
        cursors[ad] = -1
        if keep[ad] != 0:
            cursors[ad] = out_bounds[kept]
            out_bounds[kept + 1] = out_bounds[kept] + sizes[ad]
            kept += 1
    out_features = np.empty(out_bounds[kept], np.int32)
    out_weights = np.empty(out_bounds[kept], np.uint8)
    for c in range(len(column_features)):
        column = shards.column(table, shard, c, 0, ads)
        for ad in range(ads):
            if column[ad] != 0 and cursors[ad] >= 0:
                out_features[cursors[ad]] = column_features[c]
                out_weights[cursors[ad]] = column[ad]
                cursors[ad] += 1
    for listed in range(len(features)):
        cursor = np.int64(bounds[listed])
        for block in range(counts.shape[1]):
            stop = cursor + counts[listed, block]
            lows = shards.lows(table, shard, cursor, stop)
            weights = shards.weights(table, shard, cursor, stop)
            for p in range(len(lows)):
                ad = block * shards.BLOCK_SLOTS + lows[p]
                if cursors[ad] >= 0:
                    out_features[cursors[ad]] = features[listed]
                    out_weights[cursors[ad]] = weights[p]
                    cursors[ad] += 1
            cursor = stop
    return out_bounds, out_features, out_weights
