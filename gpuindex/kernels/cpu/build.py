"""Posting lists from ad-major features, in two counting passes and no sort.

Ads come in slot order, so a pass that counts and a pass that places leave every
list ascending.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, int32, int64, kernel, uint8


@kernel(int64, fixed(int64), fixed(int32), fixed(uint8), fixed(uint8), int64, int64)
def build(
    ads: int,
    ad_bounds: Any,
    ad_features: Any,
    ad_weights: Any,
    keep: Any,
    feature_count: int,
    column_least: int,
) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
    """Invert the features of the kept ads.

    A ads, F features, L segment lists, C dense columns, B blocks, P postings.

    Args:
        ads: A; slots are 0..A-1.
        ad_bounds: [>= A + 1] int64, each ad's range of features.
        ad_features: [...] int32, distinct within an ad.
        ad_weights: [...] uint8, 1..255.
        keep: [A] uint8, 0 leaves the ad's postings out.
        feature_count: F.
        column_least: a feature with this many ads or more becomes a column.

    Returns:
        features [L] int32 ascending, bounds [L + 1] int32, counts [L, B] uint16,
        lows [P] uint16, weights [P] uint8, column_features [C] int32 ascending,
        columns [C, A] uint8.
    """
    totals = np.zeros(feature_count, np.int64)
    for ad in range(ads):
        if keep[ad] != 0:
            for p in range(ad_bounds[ad], ad_bounds[ad + 1]):
                totals[ad_features[p]] += 1
    lists = 0
    columns = 0
    for feature in range(feature_count):
        if totals[feature] >= column_least:
            columns += 1
        elif totals[feature] > 0:
            lists += 1
    blocks = (ads + shards.BLOCK_SLOTS - 1) // shards.BLOCK_SLOTS
    features = np.empty(lists, np.int32)
    bounds = np.zeros(lists + 1, np.int32)
    counts = np.zeros((lists, blocks), np.uint16)
    column_features = np.empty(columns, np.int32)
    # Where a feature went: list l as l, column c as -2 - c.
    places = np.empty(feature_count, np.int32)
    lists = 0
    columns = 0
    for feature in range(feature_count):
        if totals[feature] >= column_least:
            column_features[columns] = feature
            places[feature] = -2 - columns
            columns += 1
        elif totals[feature] > 0:
            features[lists] = feature
            places[feature] = lists
            bounds[lists + 1] = bounds[lists] + totals[feature]
            lists += 1
    lows = np.empty(bounds[lists], np.uint16)
    weights = np.empty(bounds[lists], np.uint8)
    column_weights = np.zeros((columns, ads), np.uint8)
    cursors = bounds[:-1].copy()
    for ad in range(ads):
        if keep[ad] == 0:
            continue
        block = ad // shards.BLOCK_SLOTS
        low = ad - block * shards.BLOCK_SLOTS
        for p in range(ad_bounds[ad], ad_bounds[ad + 1]):
            place = places[ad_features[p]]
            if place >= 0:
                cursor = cursors[place]
                lows[cursor] = low
                weights[cursor] = ad_weights[p]
                counts[place, block] += 1
                cursors[place] = cursor + 1
            else:
                column_weights[-2 - place, ad] = ad_weights[p]
    return features, bounds, counts, lows, weights, column_features, column_weights
