"""Writer-side lookups: ad ids to rows, and which records are news.

A hash table with open addressing and linear probing, at most half full, keyed
by ad id; rows never move while the table lives.
"""

from typing import Any

import numpy as np

from .compiled import fixed, inlined, int32, int64, kernel, uint8, written
from .draws import mixed

ABSENT = -1
UNKNOWN = -1

SKIPPED = 0
UPSERTED = 1
DELETED = 2


@inlined
def _place(keys: Any, rows: Any, ad_id: int) -> Any:
    """The place of an ad id, or the free place where it would go."""
    last = len(keys) - 1
    place = np.int64(mixed(ad_id) & np.uint64(last))
    while rows[place] != ABSENT and keys[place] != ad_id:
        place = (place + 1) & last
    return place


@inlined
def _row_of(keys: Any, rows: Any, row_ids: Any, ad_id: int, count: int) -> Any:
    """The row of an ad id, made at `count` if it has none."""
    place = _place(keys, rows, ad_id)
    if rows[place] == ABSENT:
        keys[place] = ad_id
        rows[place] = count
        row_ids[count] = ad_id
    return np.int64(rows[place])


@kernel(
    written(int64),
    written(int32),
    written(int64),
    int64,
    fixed(int64),
    written(int32),
)
def find_or_add(keys: Any, rows: Any, row_ids: Any, count: int, ad_ids: Any, found: Any) -> int:
    """The row of each ad id, new rows appended.

    Args:
        keys: [power of two] int64, the hash table's ad ids.
        rows: [same] int32, their rows, or ABSENT.
        row_ids: [capacity] int64, each row's ad id.
        count: rows in use.
        ad_ids: [B] int64.
        found: [B] int32, the result.

    Returns:
        Rows in use now.
    """
    for b in range(len(ad_ids)):
        row = _row_of(keys, rows, row_ids, ad_ids[b], count)
        count = max(count, row + 1)
        found[b] = row
    return count


@kernel(fixed(int64), fixed(int32), fixed(int64), written(int32))
def find(keys: Any, rows: Any, ad_ids: Any, found: Any) -> None:
    """The row of each ad id, or ABSENT; arguments as in `find_or_add`."""
    for b in range(len(ad_ids)):
        found[b] = rows[_place(keys, rows, ad_ids[b])]


@kernel(
    fixed(int32),
    fixed(int64),
    fixed(uint8),
    written(int64),
    written(int32),
    written(int64),
    int64,
    int64,
    written(uint8),
    written(int32),
    written(int32),
)
def admit(
    record_rows: Any,
    record_versions: Any,
    deletes: Any,
    versions: Any,
    slots: Any,
    deleted_ms: Any,
    now_ms: int,
    next_slot: int,
    outcomes: Any,
    slots_born: Any,
    slots_dying: Any,
) -> tuple[int, int]:
    """Apply versions in arrival order and hand out slots.

    B records, R rows.

    Args:
        record_rows: [B] int32.
        record_versions: [B] int64; on a delete -1 stands for the known one + 1.
        deletes: [B] uint8.
        versions: [R] int64, the known version of each row, or UNKNOWN.
        slots: [R] int32, the living slot of each row, or ABSENT.
        deleted_ms: [R] int64, when a row's ad was deleted, 0 if it was not.
        now_ms: written to `deleted_ms`.
        next_slot: the first free slot.
        outcomes: [B] uint8, the result: SKIPPED, UPSERTED or DELETED.
        slots_born: [B] int32, the result, the first of them: each upsert's slot.
        slots_dying: [B] int32, the result, the first of them.

    Returns:
        How many were upserted and how many slots are dying.
    """
    born = 0
    dying = 0
    for b in range(len(record_rows)):
        row = record_rows[b]
        version = record_versions[b]
        if version < 0 and deletes[b] != 0 and versions[row] != UNKNOWN:
            version = versions[row] + 1
        if version < 0 or version <= versions[row]:
            outcomes[b] = SKIPPED
            continue
        versions[row] = version
        if slots[row] != ABSENT:
            slots_dying[dying] = slots[row]
            dying += 1
            slots[row] = ABSENT
        if deletes[b] != 0:
            outcomes[b] = DELETED
            deleted_ms[row] = now_ms
        else:
            outcomes[b] = UPSERTED
            deleted_ms[row] = 0
            slots[row] = next_slot + born
            slots_born[born] = slots[row]
            born += 1
    return born, dying


@kernel(
    fixed(uint8),
    fixed(int32),
    fixed(int32),
    fixed(uint8),
    written(int64),
    written(int32),
    written(uint8),
    int64,
    written(int64),
    int64,
)
def append(
    outcomes: Any,
    bounds: Any,
    features: Any,
    weights: Any,
    tail_bounds: Any,
    tail_features: Any,
    tail_weights: Any,
    tail_ads: int,
    stamps: Any,
    stamp: int,
) -> int:
    """Append the features of upserted records to the tail.

    A feature that an ad names twice counts once, with the greater weight, and
    a weight of 0 becomes 1, so that a posting always means presence.

    Args:
        outcomes: [B] uint8, from `admit`.
        bounds: [B + 1] int32, each record's range of features.
        features: [...] int32.
        weights: [...] uint8.
        tail_bounds: [> tail_ads + upserts] int64.
        tail_features, tail_weights: long enough for all of `features`.
        tail_ads: ads in the tail before.
        stamps: [feature count] int64 scratch: `position + stamp` of the latest
            sighting of each feature.
        stamp: greater than all that `stamps` holds.

    Returns:
        A stamp greater than all that `stamps` now holds.
    """
    end = tail_bounds[tail_ads]
    for b in range(len(outcomes)):
        if outcomes[b] != UPSERTED:
            continue
        begin = end
        for p in range(bounds[b], bounds[b + 1]):
            feature = features[p]
            weight = max(weights[p], np.uint8(1))
            seen = stamps[feature] - stamp
            if seen >= begin:
                tail_weights[seen] = max(tail_weights[seen], weight)
            else:
                stamps[feature] = stamp + end
                tail_features[end] = feature
                tail_weights[end] = weight
                end += 1
        tail_ads += 1
        tail_bounds[tail_ads] = end
    next_stamp: int = stamp + end
    return next_stamp
