"""Posting lists from ad-major features, in two counting passes and no sort.

Ads come in slot order, so a pass that counts and a pass that places leave every
list ascending. Each list is then encoded by itself.
"""

from typing import Any

import numpy as np

from .compiled import fixed, inlined, int32, int64, kernel, uint8
from .encodings import WORD_BYTES, choose, encode


@inlined
def _placed(
    ads: int, ad_bounds: Any, ad_features: Any, ad_weights: Any, keep: Any, totals: Any
) -> tuple[Any, Any, Any, Any]:
    """Feature-major postings: features [L], bounds [L + 1], slots [P], weights [P]."""
    listed = np.flatnonzero(totals)
    bounds = np.zeros(len(listed) + 1, np.int64)
    cursors = np.empty(len(totals), np.int64)
    for i in range(len(listed)):
        cursors[listed[i]] = bounds[i]
        bounds[i + 1] = bounds[i] + totals[listed[i]]
    slots = np.empty(bounds[-1], np.int32)
    weights = np.empty(bounds[-1], np.uint8)
    for ad in range(ads):
        if keep[ad] == 0:
            continue
        for p in range(np.uint64(ad_bounds[ad]), np.uint64(ad_bounds[ad + 1])):
            feature = np.uint32(ad_features[p])
            cursor = np.uint64(cursors[feature])
            slots[cursor] = ad
            weights[cursor] = ad_weights[p]
            cursors[feature] += 1
    return listed.astype(np.int32), bounds, slots, weights


@kernel(int64, fixed(int64), fixed(int32), fixed(uint8), fixed(uint8), int64)
def build(
    ads: int,
    ad_bounds: Any,
    ad_features: Any,
    ad_weights: Any,
    keep: Any,
    feature_count: int,
) -> tuple[Any, Any, Any, Any]:
    """Invert the features of the kept ads.

    A ads, F features, L lists, W words.

    Args:
        ads: A; slots are 0..A-1.
        ad_bounds: [>= A + 1] int64, each ad's range of features.
        ad_features: [...] int32, distinct within an ad.
        ad_weights: [...] uint8, 1..255.
        keep: [A] uint8, 0 leaves the ad's postings out.
        feature_count: F.

    Returns:
        features [L] int32 ascending, starts [L + 1] int32 in words, codes [L]
        uint8, data [W] int32: see `encodings`.
    """
    totals = np.zeros(feature_count, np.int32)
    for ad in range(ads):
        if keep[ad] != 0:
            for p in range(np.uint64(ad_bounds[ad]), np.uint64(ad_bounds[ad + 1])):
                totals[np.uint32(ad_features[p])] += 1
    features, bounds, slots, weights = _placed(
        ads, ad_bounds, ad_features, ad_weights, keep, totals
    )
    starts = np.zeros(len(features) + 1, np.int32)
    codes = np.empty(len(features), np.uint8)
    for i in range(len(features)):
        own = slice(bounds[i], bounds[i + 1])
        codes[i], words = choose(slots[own], weights[own], ads)
        starts[i + 1] = starts[i] + words
    data = np.zeros(starts[-1], np.int32)
    for i in range(len(features)):
        own = slice(bounds[i], bounds[i + 1])
        address = data.ctypes.data + WORD_BYTES * starts[i]
        encode(slots[own], weights[own], ads, codes[i], address)
    return features, starts, codes, data
