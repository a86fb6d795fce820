"""Posting lists from ad-major features on a GPU, in two counting passes.

One pass counts the postings of every list, the other places them; between the
two, prefix sums turn counts into starts. A list is filled in whatever order
threads come, is put into order by a radix sort of its slots, and encoded.
"""

from typing import Any

import numpy as np
from numba import cuda

from .compiled import array, int32, int64, kernel, uint8
from .device import current, spread
from .encode import encoded

THREADS = 256


@kernel(
    int64, array(int64), array(int32), array(uint8), array(int32), threads=THREADS, registers=40
)
def count_postings(ads: int, ad_bounds: Any, ad_features: Any, keep: Any, totals: Any) -> None:
    """Count postings by feature, a thread per ad.

    Args:
        ads, ad_bounds, ad_features, keep: as in `build`.
        totals: [F] int32, zero before.
    """
    ad = np.int64(cuda.grid(1))
    while ad < ads:
        if keep[ad] != 0:
            for p in range(ad_bounds[ad], ad_bounds[ad + 1]):
                cuda.atomic.add(totals, ad_features[p], 1)
        ad += cuda.gridsize(1)


@kernel(
    int64,
    array(int64),
    array(int32),
    array(uint8),
    array(uint8),
    array(int32),
    array(int32),
    array(int32),
    array(int32),
    array(uint8),
    threads=THREADS,
    registers=56,
)
def place_postings(
    ads: int,
    ad_bounds: Any,
    ad_features: Any,
    ad_weights: Any,
    keep: Any,
    list_of: Any,
    cursors: Any,
    lists: Any,
    slots: Any,
    weights: Any,
) -> None:
    """Put every posting into its list, a thread per ad.

    Args:
        ads, ad_bounds, ad_features, ad_weights, keep: as in `build`.
        list_of: [F] int32, each feature's list.
        cursors: [L] int32, each list's first place; moved to its end.
        lists: [P] int32, written, as are the following.
        slots: [P] int32.
        weights: [P] uint8.
    """
    ad = np.int64(cuda.grid(1))
    while ad < ads:
        if keep[ad] != 0:
            for p in range(ad_bounds[ad], ad_bounds[ad + 1]):
                listed = list_of[ad_features[p]]
                at = cuda.atomic.add(cursors, listed, 1)
                lists[at] = listed
                slots[at] = ad
                weights[at] = ad_weights[p]
        ad += cuda.gridsize(1)


def build(
    ads: int,
    ad_bounds: Any,
    ad_features: Any,
    ad_weights: Any,
    keep: Any,
    feature_count: int,
) -> tuple[Any, Any, Any, Any]:
    """Invert the features of the kept ads.

    Arguments and result as in the CPU twin, in device memory. The host waits
    twice, for the numbers of postings and of words.
    """
    arrays = current().arrays
    totals = arrays.zeros(feature_count, np.int32)
    spread(count_postings, ads, ads, ad_bounds, ad_features, keep, totals)

    features = arrays.flatnonzero(totals).astype(np.int32)
    list_of = arrays.empty(feature_count, np.int32)
    list_of[features] = arrays.arange(len(features), dtype=np.int32)
    bounds = arrays.zeros(len(features) + 1, np.int64)
    bounds[1:] = arrays.cumsum(totals[features])

    postings = int(bounds[-1])
    lists = arrays.empty(postings, np.int32)
    slots = arrays.empty(postings, np.int32)
    weights = arrays.empty(postings, np.uint8)
    cursors = bounds[:-1].astype(np.int32)
    spread(
        place_postings,
        ads,
        ads,
        ad_bounds,
        ad_features,
        ad_weights,
        keep,
        list_of,
        cursors,
        lists,
        slots,
        weights,
    )
    order = arrays.argsort(lists.astype(np.int64) * ads + slots)
    return features, *encoded(ads, lists, bounds, slots[order], weights[order])
