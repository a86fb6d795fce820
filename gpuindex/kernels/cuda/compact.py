"""Folding of shards on a GPU: their posting lists merged for the ads' new slots.

As in `build`, one pass counts and one places, and the new lists are put into
order and encoded.
"""

from typing import Any

import numpy as np
from numba import cuda

from ..cpu.encodings import RAW, U8, U16
from ..cpu.shards import LISTS, SHARD_ADS
from . import shards
from .compiled import WARP_LANES, array, inlined, int32, int64, kernel, uint8
from .device import current, spread
from .encode import encoded
from .lists import reader

THREADS = 256


@kernel(
    array(int64, 2),
    array(int64),
    array(int32),
    array(int64),
    threads=THREADS,
    registers=48,
)
def list_lists(table: Any, bounds: Any, features: Any, most: Any) -> None:
    """Write down the feature of every list and how many postings it has at most.

    Args:
        table: [S, FIELDS] int64.
        bounds: [S + 1] int64, running total of the shards' lists.
        features: [all lists] int32, written.
        most: [all lists] int64, written.
    """
    item = np.int64(cuda.grid(1))
    shard = 0
    while item < features.shape[0]:
        while item >= bounds[shard + 1]:
            shard += 1
        listed = item - bounds[shard]
        encoding = shards.encoding(table, shard, listed)
        features[item] = shards.feature(table, shard, listed)
        if encoding == RAW:
            most[item] = shards.raw_entries(table, shard, listed)
        elif encoding in (U16, U8):
            most[item] = shards.entries(table, shard, listed)
        else:
            most[item] = table[shard, SHARD_ADS]
        item += cuda.gridsize(1)


@inlined
def take(slot: int, weight: int, context: Any) -> None:
    """Count a posting at its new slot, if it has one, and place it if there is room."""
    number, moved, cursors, lists, slots, weights = context
    to = moved[slot]
    if to >= 0:
        at = cuda.atomic.add(cursors, number, 1)
        if lists.shape[0] > 0:
            lists[at] = number
            slots[at] = to
            weights[at] = weight


read_and_take = reader(take)


@kernel(
    array(int64, 2),
    array(int32),
    array(int32),
    array(int32),
    array(int32),
    array(int32),
    array(uint8),
    threads=128,
    registers=112,
)
def merge(
    table: Any, wanted: Any, moved: Any, cursors: Any, lists: Any, slots: Any, weights: Any
) -> None:
    """Count or place the postings of some features, a warp per shard and feature.

    Args:
        table: [S, FIELDS] int64.
        wanted: [L] int32, features.
        moved: as in `fold`.
        cursors: [L] int32; a pass that counts begins at 0, one that places at
            each list's first place.
        lists: [P] int32, written, or [0] to count; as are the following.
        slots: [P] int32.
        weights: [P] uint8.
    """
    item = np.int64(cuda.grid(1) // WARP_LANES)
    while item < table.shape[0] * wanted.shape[0]:
        shard = item // wanted.shape[0]
        number = item - shard * wanted.shape[0]
        listed = shards.locate(table, shard, wanted[number])
        read_and_take(table, shard, listed, (number, moved, cursors, lists, slots, weights))
        item += cuda.gridsize(1) // WARP_LANES


def fold(
    table: Any, moved: Any, ads: int, first_feature: int, enough: int
) -> tuple[int, Any, Any, Any, Any]:
    """Merge the lists of some features into lists of one shard.

    Arguments and result as in the CPU twin, in device memory.
    """
    arrays = current().arrays
    features, most = _features(table, first_feature)
    reached = arrays.cumsum(arrays.maximum(most, 1))
    counts = arrays.zeros(len(features), np.int32)
    none = arrays.empty(0, np.int32), arrays.empty(0, np.int32), arrays.empty(0, np.uint8)
    # No list has more postings than it may have, so the features that may have
    # enough are needed in any case; those that turn out to be fewer are counted,
    # and the next ones looked at.
    end = 0
    postings = 0
    while end < len(features) and postings < enough:
        begin = end
        before = int(reached[begin - 1]) if begin else 0
        end = int(arrays.searchsorted(reached, before + enough - postings)) + 1
        end = min(end, len(features))
        own = counts[begin:end]
        spread(
            merge,
            table.shape[0] * (end - begin),
            table,
            features[begin:end],
            moved,
            own,
            *none,
            lanes=WARP_LANES,
        )
        postings += int(arrays.maximum(own, 1).sum())
    following = int(features[end]) if end < len(features) else -1

    held = arrays.flatnonzero(counts[:end])
    features = features[held]
    bounds = arrays.zeros(len(held) + 1, np.int64)
    bounds[1:] = arrays.cumsum(counts[held])
    found = int(bounds[-1])
    lists = arrays.empty(found, np.int32)
    slots = arrays.empty(found, np.int32)
    weights = arrays.empty(found, np.uint8)
    cursors = bounds[:-1].astype(np.int32)
    if found:
        pairs = table.shape[0] * len(features)
        own_lists = (lists, slots, weights)
        spread(merge, pairs, table, features, moved, cursors, *own_lists, lanes=WARP_LANES)
    order = arrays.argsort(lists.astype(np.int64) * ads + slots)
    starts, codes, data = encoded(ads, lists, bounds, slots[order], weights[order])
    return following, features, starts[1:] - starts[:-1], codes, data


def _features(table: Any, first_feature: int) -> tuple[Any, Any]:
    """[L] int32 features from one on, ascending, and int64 postings at most."""
    arrays = current().arrays
    bounds = arrays.zeros(table.shape[0] + 1, np.int64)
    bounds[1:] = arrays.cumsum(table[:, LISTS])
    features = arrays.empty(int(bounds[-1]), np.int32)
    most = arrays.empty(len(features), np.int64)
    spread(list_lists, len(features), table, bounds, features, most)
    wanted = features >= first_feature
    distinct, places = arrays.unique(features[wanted], return_inverse=True)
    sums = arrays.bincount(places, most[wanted], len(distinct))
    return distinct, sums.astype(np.int64)


@inlined
def put_label(slot: int, weight: int, context: Any) -> None:
    """Raise the label at a posting's slot to a number."""
    labels, number = context
    cuda.atomic.max(labels, slot, number)


read_and_label = reader(put_label)


@kernel(array(int64, 2), array(int32), array(int32), threads=128, registers=96)
def label_lists(table: Any, features: Any, labels: Any) -> None:
    """Raise labels to the greatest number of the features at each slot, a warp per list.

    Args:
        table: [S, FIELDS] int64.
        features: [V] int32.
        labels: [N] int32, -1 before.
    """
    item = np.int64(cuda.grid(1) // WARP_LANES)
    while item < table.shape[0] * features.shape[0]:
        shard = item // features.shape[0]
        number = item - shard * features.shape[0]
        listed = shards.locate(table, shard, features[number])
        read_and_label(table, shard, listed, (labels, np.int32(number)))
        item += cuda.gridsize(1) // WARP_LANES


def label(table: Any, slots: int, features: Any) -> Any:
    """Number each slot by which of some features its ad has.

    Arguments and result as in the CPU twin, in device memory.
    """
    arrays = current().arrays
    labels = arrays.full(slots, -1, np.int32)
    lists = table.shape[0] * len(features)
    spread(label_lists, lists, table, features, labels, lanes=WARP_LANES)
    labels[labels < 0] = len(features)
    return labels


def sort_by_label(slots: Any, labels: Any, label_count: int) -> Any:
    """Slots by rising label, those of the same label in the order given.

    Arguments and result as in the CPU twin, in device memory.
    """
    arrays = current().arrays
    keys = labels[slots].astype(np.int64) * len(slots) + arrays.arange(len(slots))
    return slots[arrays.argsort(keys)]
