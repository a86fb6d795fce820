"""Folding of shards: their posting lists merged for the ads' new slots.

Lists go from encoded to encoded, feature by feature, so that any number of
features is a step of its own and nothing grows with the index but the result.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, inlined, int32, int64, kernel
from .encodings import WORD_BYTES, choose, encode

# Slots that come out of order are sorted as a column of weights if the list has
# one ad in so many or more: scanning a slot is that much cheaper than sorting.
SORT_SHARE = 32

WEIGHT_BITS = 8
WEIGHT_MASK = 255


@inlined
def _merged(
    table: Any, cursors: Any, feature: int, moved: Any, slots: Any, weights: Any
) -> tuple[Any, Any]:
    """The feature's postings at their new slots; the shards' cursors pass it.

    Returns:
        How many there are, and whether they ascend.
    """
    kept = np.uint64(0)
    ascending = True
    last = np.int32(-1)
    for shard in range(table.shape[0]):
        features = shards.features(table, shard)
        listed = cursors[shard]
        if listed == len(features) or features[listed] != feature:
            continue
        cursors[shard] += 1
        own = moved[table[shard, shards.FIRST_SLOT] :]
        begun = np.int64(kept)
        found = shards.decode(table, shard, listed, slots[begun:], weights[begun:])
        for p in range(kept, np.uint64(begun + found)):
            slot = own[np.uint32(slots[p])]
            slots[kept] = slot
            weights[kept] = weights[p]
            # Dead ones have no new slot, and are written over by the next.
            kept += np.uint64(slot >= 0)
            ascending &= (slot < 0) | (slot > last)
            last = max(last, slot)
    return np.int64(kept), ascending


@inlined
def _sort(slots: Any, weights: Any, column: Any) -> None:
    """Sort postings by slot; `column` is all zero before and after."""
    if len(slots) >= len(column) // SORT_SHARE:
        for p in range(len(slots)):
            column[slots[p]] = weights[p]
        found = 0
        for slot in range(len(column)):
            if column[slot] != 0:
                slots[found] = slot
                weights[found] = column[slot]
                found += 1
        column[:] = 0
        return
    keys = np.empty(len(slots), np.int64)
    for p in range(len(slots)):
        keys[p] = np.int64(slots[p]) << WEIGHT_BITS | weights[p]
    keys.sort()
    for p in range(len(slots)):
        slots[p] = keys[p] >> WEIGHT_BITS
        weights[p] = keys[p] & WEIGHT_MASK


@inlined
def _least_feature(table: Any, cursors: Any) -> Any:
    """The least feature at the shards' cursors, or -1."""
    least = np.int64(-1)
    for shard in range(table.shape[0]):
        features = shards.features(table, shard)
        if cursors[shard] < len(features) and (least < 0 or features[cursors[shard]] < least):
            least = np.int64(features[cursors[shard]])
    return least


@kernel(fixed(int64, 2), fixed(int32), int64, int64, int64)
def fold(
    table: Any, moved: Any, ads: int, first_feature: int, enough: int
) -> tuple[int, Any, Any, Any, Any]:
    """Merge the lists of some features into lists of one shard.

    S shards to fold, N old slots, L lists made, W words.

    Args:
        table: [S, FIELDS] int64, the shard table.
        moved: [N] int32, each old slot's new one, or -1.
        ads: new slots.
        first_feature: where to begin.
        enough: stop when this many postings have been merged.

    Returns:
        The feature to go on with or -1, features [L] int32, sizes [L] int32 in
        words, codes [L] uint8, data [W] int32.
    """
    cursors = np.empty(table.shape[0], np.int64)
    capacity = 0
    for shard in range(table.shape[0]):
        features = shards.features(table, shard)
        cursors[shard] = np.searchsorted(features, first_feature)
        capacity += len(features) - cursors[shard]
    out_features = np.empty(capacity, np.int32)
    out_sizes = np.empty(capacity, np.int32)
    out_codes = np.empty(capacity, np.uint8)
    slots = np.empty(len(moved), np.int32)
    weights = np.empty(len(moved), np.uint8)
    column = np.zeros(ads, np.uint8)
    data = np.zeros(max(ads, enough), np.int32)
    used = 0
    lists = 0
    postings = 0
    feature = _least_feature(table, cursors)
    while feature >= 0 and postings < enough:
        count, ascending = _merged(table, cursors, feature, moved, slots, weights)
        if not ascending:
            _sort(slots[:count], weights[:count], column)
        if count > 0:
            code, words = choose(slots[:count], weights[:count], ads)
            if used + words > len(data):
                longer = np.zeros(2 * (used + words), np.int32)
                longer[:used] = data[:used]
                data = longer
            address = data.ctypes.data + WORD_BYTES * used
            encode(slots[:count], weights[:count], ads, code, address)
            out_features[lists] = feature
            out_sizes[lists] = words
            out_codes[lists] = code
            lists += 1
            used += words
        # An empty list costs time as well.
        postings += max(count, 1)
        feature = _least_feature(table, cursors)
    return (
        feature,
        out_features[:lists].copy(),
        out_sizes[:lists].copy(),
        out_codes[:lists].copy(),
        data[:used].copy(),
    )


@kernel(fixed(int64, 2), int64, fixed(int32))
def label(table: Any, slots: int, features: Any) -> Any:
    """Number each slot by which of some features its ad has.

    Args:
        table: [S, FIELDS] int64, the shard table.
        slots: N, to number.
        features: [V] int32, ascending.

    Returns:
        [N] int32, one of the places in `features`, or V for none.
    """
    labels = np.full(slots, len(features), np.int32)
    places = np.empty(slots, np.int32)
    weights = np.empty(slots, np.uint8)
    for shard in range(table.shape[0]):
        own = labels[table[shard, shards.FIRST_SLOT] :]
        for number in range(len(features)):
            listed = shards.locate(table, shard, features[number])
            if listed >= 0:
                for p in range(shards.decode(table, shard, listed, places, weights)):
                    own[places[p]] = number
    return labels


@kernel(fixed(int32), fixed(int32), int64)
def sort_by_label(slots: Any, labels: Any, label_count: int) -> Any:
    """Slots by rising label, those of the same label in the order given.

    Args:
        slots: [A] int32.
        labels: [N] int32 by slot.
        label_count: greater than every label.
    """
    places = np.zeros(label_count + 1, np.int64)
    for i in range(len(slots)):
        places[labels[slots[i]] + 1] += 1
    for number in range(label_count):
        places[number + 1] += places[number]
    ordered = np.empty(len(slots), np.int32)
    for i in range(len(slots)):
        number = labels[slots[i]]
        ordered[places[number]] = slots[i]
        places[number] += 1
    return ordered


@kernel(fixed(int64, 2), int64, int64)
def carried(table: Any, shard: int, slot: int) -> tuple[Any, Any]:
    """The features int32, ascending, and weights uint8 of the ad at a shard's own slot.

    Reads every list of the shard.
    """
    features = shards.features(table, shard)
    own = np.empty(len(features), np.int32)
    own_weights = np.empty(len(features), np.uint8)
    slots = np.empty(table[shard, shards.ADS], np.int32)
    weights = np.empty(len(slots), np.uint8)
    count = 0
    for listed in range(len(features)):
        found = shards.decode(table, shard, listed, slots, weights)
        place = np.searchsorted(slots[:found], slot)
        if place < found and slots[place] == slot:
            own[count] = features[listed]
            own_weights[count] = weights[place]
            count += 1
    return own[:count].copy(), own_weights[:count].copy()
