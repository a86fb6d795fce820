"""The exact K best eligible ads, higher score first, then lower ad id.

Eligibility is tested only on ads whose score could still enter. Survivors go
to a buffer of more than K places as one int64, the score above the slot; when
it is full a selection without branches keeps the best K and raises the bar,
which costs a constant per survivor, where a heap costs a logarithm. Ad ids
are looked up only to break ties.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, inlined, int32, int64, kernel, uint8, written
from .draws import paced
from .ordering import SLOT_BITS, SLOT_MASK, select, sort_by_ad, sort_by_score
from .states import OPEN, state_record

# A run of slots whose best score is below the bar is passed over at the speed
# of a vector maximum.
RUN_SLOTS = 64

LAST_AD = np.iinfo(np.int64).max


@inlined
def _below(values: Any, bar: int) -> Any:
    best = values[0]
    for i in range(len(values)):
        best = max(best, values[i])
    return best < bar


@inlined
def _scan(scores: Any, slot: int, end: int, bar: int, keys: Any, found: int) -> tuple[Any, Any]:
    """Append keys of slots at or above the bar, while a whole run has room.

    Returns:
        The slot to go on with, and how many keys there are now.
    """
    while slot < end and found + RUN_SLOTS <= len(keys):
        run = scores[slot : min(slot + RUN_SLOTS, end)]
        if not _below(run, bar):
            for i in range(len(run)):
                keys[found] = np.int64(run[i]) << SLOT_BITS | (slot + i)
                found += run[i] >= bar
        slot += len(run)
    return slot, found


@inlined
def _gather(
    scores: Any, touched: Any, step: int, end: int, bar: int, keys: Any, found: int
) -> tuple[Any, Any]:
    """Append keys of touched slots at or above the bar, zeroing their scores.

    A slot that comes a second time has score zero by then, below any bar.
    """
    while step < end and found < len(keys):
        slot = np.uint32(touched[step])
        keys[found] = np.int64(scores[slot]) << SLOT_BITS | slot
        found += scores[slot] >= bar
        scores[slot] = 0
        step += 1
    return step, found


@inlined
def _eligible(
    keys: Any,
    tested: int,
    found: int,
    first: int,
    ad_ids: Any,
    targeting: Any,
    dead: Any,
    epoch: int,
    pages: Any,
    states: Any,
    now_ms: int,
    seed: int,
    allowed: Any,
    mask: Any,
    bar: int,
    bar_ad: int,
) -> Any:
    """Keep the eligible ones of keys [tested, found), all in one shard.

    In a loop of their own, so that the cache misses of many overlap.
    """
    kept = tested
    for i in range(tested, found):
        slot = np.uint32(keys[i] & SLOT_MASK)
        if dead[slot] <= epoch or (len(mask) > 0 and mask[slot] == 0):
            continue
        state = states[pages[slot // shards.PAGE_SLOTS], slot % shards.PAGE_SLOTS]
        if state.gate != OPEN or now_ms < state.start_ms or now_ms >= state.end_ms:
            continue
        local = slot - first
        if len(allowed) > 1 and allowed[targeting[local]] == 0:
            continue
        if state.pacing < 1 and paced(seed, ad_ids[local]) >= state.pacing:
            continue
        if keys[i] >> SLOT_BITS == bar and ad_ids[local] > bar_ad:
            continue
        keys[kept] = keys[i]
        kept += 1
    return kept


@inlined
def _ad_at(table: Any, tail_first: int, tail_ad_ids: Any, slot: int) -> Any:
    """The ad id at a slot of any shard or the tail."""
    if slot >= tail_first:
        return tail_ad_ids[slot - tail_first]
    shard = table.shape[0] - 1
    while table[shard, shards.FIRST_SLOT] > slot:
        shard -= 1
    return shards.ad_ids(table, shard)[slot - table[shard, shards.FIRST_SLOT]]


@inlined
def _prune(
    table: Any, tail_first: int, tail_ad_ids: Any, keys: Any, count: int, k: int
) -> tuple[Any, Any, Any]:
    """Drop what cannot be among the best k of the first `count` > k keys.

    Returns:
        How many are left, the score of the k-th, and the greatest ad id with
        which another ad of that score could still enter.
    """
    select(keys, count, k)
    bar = keys[k - 1] >> SLOT_BITS
    kept = k
    for i in range(k, count):
        if keys[i] >> SLOT_BITS == bar:
            keys[kept] = keys[i]
            kept += 1
    if kept - k <= (len(keys) - k) // 4:
        return kept, bar, LAST_AD
    # So many equals that the buffer would not empty: the least ad ids stay.
    better = 0
    for i in range(kept):
        if keys[i] >> SLOT_BITS > bar:
            keys[i], keys[better] = keys[better], keys[i]
            better += 1
    ads = np.empty(kept - better, np.int64)
    for i in range(len(ads)):
        ads[i] = _ad_at(table, tail_first, tail_ad_ids, keys[better + i] & SLOT_MASK)
    sort_by_ad(keys[better:kept], ads)
    return k, bar, ads[k - better - 1]


@inlined
def _deliver(
    table: Any,
    tail_first: int,
    tail_ad_ids: Any,
    keys: Any,
    count: int,
    scores: Any,
    ads: Any,
    slots: Any,
) -> None:
    """Order the first `count` keys and write out as many as there is room for."""
    sort_by_score(keys, count)
    all_ads = np.empty(count, np.int64)
    for i in range(count):
        all_ads[i] = _ad_at(table, tail_first, tail_ad_ids, keys[i] & SLOT_MASK)
    begin = 0
    for i in range(1, count + 1):
        if i == count or keys[i] >> SLOT_BITS != keys[begin] >> SLOT_BITS:
            if i - begin > 1:
                sort_by_ad(keys[begin:i], all_ads[begin:i])
            begin = i
    for i in range(min(count, len(ads))):
        scores[i] = keys[i] >> SLOT_BITS
        ads[i] = all_ads[i]
        slots[i] = keys[i] & SLOT_MASK


@kernel(
    fixed(int64, 2),
    int64,
    int64,
    fixed(int64),
    fixed(int32),
    written(int32),
    fixed(int32),
    fixed(int64),
    int64,
    int64,
    fixed(int64),
    int64,
    fixed(int32),
    fixed(state_record, 2),
    int64,
    int64,
    fixed(uint8),
    fixed(uint8),
    written(int64),
    written(int32),
    written(int64),
    written(int32),
)
def topk(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_ad_ids: Any,
    tail_targeting: Any,
    scores: Any,
    touched: Any,
    touched_bounds: Any,
    touched_count: int,
    least: int,
    dead: Any,
    epoch: int,
    pages: Any,
    states: Any,
    now_ms: int,
    seed: int,
    allowed: Any,
    mask: Any,
    keys: Any,
    top_scores: Any,
    top_ads: Any,
    top_slots: Any,
) -> int:
    """Find the K best eligible ads of a view.

    S sealed shards, N slots, P pages in the pool, R rule sets.

    Args:
        table: [S, FIELDS] int64, the shard table.
        tail_first, tail_ads: the tail's slots.
        tail_ad_ids: [>= tail_ads] int64.
        tail_targeting: [>= tail_ads] int32.
        scores: [N] int32; with `touched_count` >= 0 the touched ones are put
            back to zero.
        touched, touched_bounds: see `score`.
        touched_count: how many slots were touched, or -1 to look at all.
        least: scores below this are not wanted; above 0 if slots were touched.
        dead: [N] int64, epoch from which a slot is not seen.
        epoch: the view's.
        pages: [N / PAGE_SLOTS] int32, the pool page of each run of slots.
        states: [P, PAGE_SLOTS] STATE, the pool.
        now_ms, seed: the request's.
        allowed: [R] uint8, whether the request satisfies each rule set; number 0
            holds for all.
        mask: [N] uint8, 0 excludes the slot; empty excludes none.
        keys: [>= K + 4 * RUN_SLOTS] int64 scratch; twice K serves well.
        top_scores: [K] int32, the result, as are the following.
        top_ads: [K] int64.
        top_slots: [K] int32.

    Returns:
        How many were found, sorted from best to worst.
    """
    k = len(top_ads)
    found = 0
    bar = np.int64(least)
    bar_ad = LAST_AD
    for part in range(table.shape[0] + 1):
        if part < table.shape[0]:
            first = table[part, shards.FIRST_SLOT]
            ads = table[part, shards.ADS]
            ad_ids = shards.ad_ids(table, part)
            targeting = shards.targeting(table, part)
        else:
            first = tail_first
            ads = tail_ads
            ad_ids = tail_ad_ids[:tail_ads]
            targeting = tail_targeting[:tail_ads]
        tested = found
        if touched_count >= 0:
            step = touched_bounds[part]
            end = touched_bounds[part + 1]
        else:
            step = first
            end = first + ads
        while step < end:
            if touched_count >= 0:
                step, found = _gather(scores, touched, step, end, bar, keys, found)
            else:
                step, found = _scan(scores, step, end, bar, keys, found)
            found = _eligible(
                keys,
                tested,
                found,
                first,
                ad_ids,
                targeting,
                dead,
                epoch,
                pages,
                states,
                now_ms,
                seed,
                allowed,
                mask,
                bar,
                bar_ad,
            )
            if found > (k + len(keys)) // 2:
                found, bar, bar_ad = _prune(table, tail_first, tail_ad_ids, keys, found, k)
            tested = found
    if found > k:
        found, bar, bar_ad = _prune(table, tail_first, tail_ad_ids, keys, found, k)
    _deliver(table, tail_first, tail_ad_ids, keys, found, top_scores, top_ads, top_slots)
    return min(found, k)
