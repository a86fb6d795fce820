"""The exact K best eligible ads, higher score first, then lower ad id.

Ads whose score could still enter go to a buffer of several times K places as
one int64, the score above the slot. When it is full a selection without
branches finds the best K, and only these are tested for eligibility, which
takes cache misses where a score takes none; for those that fail the next best
are tested. Then the bar rises to the K-th. Ad ids are looked up only to break
ties.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, inlined, int32, int64, kernel, uint8, written
from .draws import paced
from .encodings import int64s
from .ordering import SLOT_BITS, SLOT_MASK, UNTESTED, select, sort_by_ad, sort_by_score
from .states import OPEN, state_record

# Scores are compared with the bar a run at a time, and where one reaches it a
# group at a time: both at the speed of vectors.
RUN_SLOTS = 64
GROUP_SLOTS = 8

# After the first selection the next comes when so many times K are new. The bar
# rises with each, which spares keys, and costs tests of ads that do not stay: of
# a million ads a thousand are found in the least time with 1 to 4.
LATER_SHARE = 2

AD_ID_BYTES = 8
LAST_AD = np.iinfo(np.int64).max


@inlined
def _reached(scores: Any, begin: Any, count: int, bar: Any) -> Any:
    """Whether one of `count` scores is at or above the bar."""
    reached = np.int32(0)
    for i in range(np.uint64(count)):
        reached |= np.int32(scores[begin + i] >= bar)
    return reached != 0


@inlined
def _scan(
    scores: Any, touched: Any, place: int, end: int, bar: int, keys: Any, count: int
) -> tuple[Any, Any]:
    """Append keys of scores at or above the bar, while a whole run has room.

    Returns:
        The place to go on with, and how many keys there are now.
    """
    least = np.int32(bar)
    found = np.uint64(count)
    while place < end and np.int64(found) + RUN_SLOTS <= len(keys):
        group = place
        place = min(place + RUN_SLOTS, end)
        if place < group + RUN_SLOTS or _reached(scores, np.uint64(group), RUN_SLOTS, least):
            while group < place:
                begin = np.uint64(group)
                group = min(group + GROUP_SLOTS, place)
                if group < np.int64(begin) + GROUP_SLOTS or _reached(
                    scores, begin, GROUP_SLOTS, least
                ):
                    for at in range(begin, np.uint64(group)):
                        slot = np.int64(touched[at]) if len(touched) > 0 else np.int64(at)
                        keys[found] = np.int64(scores[at]) << SLOT_BITS | UNTESTED | slot
                        found += np.uint64(scores[at] >= least)
    return place, np.int64(found)


@inlined
def _part_of(table: Any, tail_first: int, slot: int) -> Any:
    """The shard of a slot, or -1 for the tail."""
    if slot >= tail_first:
        return -1
    shard = table.shape[0] - 1
    while table[shard, shards.FIRST_SLOT] > slot:
        shard -= 1
    return shard


@inlined
def _ad_at(table: Any, tail_first: int, tail_ad_ids: Any, slot: int) -> Any:
    """The ad id at a slot of any shard or the tail."""
    shard = _part_of(table, tail_first, slot)
    if shard < 0:
        return tail_ad_ids[slot - tail_first]
    return shards.ad_ids(table, shard)[slot - table[shard, shards.FIRST_SLOT]]


@inlined
def _ads_of(table: Any, tail_first: int, tail_ad_ids: Any, keys: Any) -> Any:
    """[keys] int64, their ad ids; without a branch, as in `_open`."""
    parts = table.shape[0]
    firsts = np.empty(parts + 1, np.int64)
    # Where the ad id of slot 0 would be, if a part began there.
    origins = np.empty(parts + 1, np.int64)
    for part in range(parts):
        firsts[part] = table[part, shards.FIRST_SLOT]
        origins[part] = table[part, shards.AD_IDS] - AD_ID_BYTES * firsts[part]
    firsts[parts] = tail_first
    origins[parts] = tail_ad_ids.ctypes.data - AD_ID_BYTES * tail_first
    ads = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        slot = keys[i] & SLOT_MASK
        part = -1
        for other in range(parts + 1):
            part += slot >= firsts[other]
        ads[i] = int64s(origins[part] + AD_ID_BYTES * slot, 1)[0]
    return ads


@inlined
def _rules_at(table: Any, tail_first: int, tail_targeting: Any, slot: int) -> Any:
    """The number of the rule set at a slot of any shard or the tail."""
    shard = _part_of(table, tail_first, slot)
    if shard < 0:
        return tail_targeting[slot - tail_first]
    return shards.targeting(table, shard)[slot - table[shard, shards.FIRST_SLOT]]


@inlined
def _open(dead: Any, epoch: int, pages: Any, states: Any, now_ms: int, keys: Any) -> Any:
    """[keys] float32, each ad's pacing; not above 0 if it is closed to all requests.

    A closed ad's may be NaN, since its state may never have been written. Without a
    branch, so that the cache misses of many ads overlap: with one, a test takes six
    times as long.
    """
    pacing = np.empty(len(keys), np.float32)
    for i in range(len(keys)):
        slot = np.uint32(keys[i] & SLOT_MASK)
        run = slot // np.uint32(shards.PAGE_SLOTS)
        state = states[pages[run], slot % np.uint32(shards.PAGE_SLOTS)]
        opened = (
            (dead[slot] > epoch)
            & (state.gate == OPEN)
            & (now_ms >= state.start_ms)
            & (now_ms < state.end_ms)
        )
        pacing[i] = state.pacing * np.float32(opened)
    return pacing


@inlined
def _test(request: Any, keys: Any, begin: int, end: int, bar: int, bar_ad: int) -> Any:
    """Keep the eligible ones of keys [begin, end), and those tested before.

    Args:
        request: what `topk` was told of slots and of the request.
        keys, begin, end: see above.
        bar, bar_ad: the score to enter, and with it the greatest ad id.

    Returns:
        Where the kept ones end.
    """
    # Taken apart once: for each key it would cost as much as the test does.
    table, tail_first, tail_ad_ids, tail_targeting, dead, epoch = request[:6]
    pages, states, now_ms, seed, allowed, mask = request[6:]
    pacing = _open(dead, epoch, pages, states, now_ms, keys[begin:end])
    kept = begin
    for i in range(begin, end):
        key = keys[i]
        if key & UNTESTED:
            key ^= UNTESTED
            slot = np.uint32(key & SLOT_MASK)
            share = pacing[i - begin]
            if not share > 0 or (len(mask) > 0 and mask[slot] == 0):
                continue
            if (
                len(allowed) > 1
                and allowed[_rules_at(table, tail_first, tail_targeting, slot)] == 0
            ):
                continue
            if share < 1 and paced(seed, _ad_at(table, tail_first, tail_ad_ids, slot)) >= share:
                continue
            if (
                bar_ad != LAST_AD
                and key >> SLOT_BITS == bar
                and _ad_at(table, tail_first, tail_ad_ids, slot) > bar_ad
            ):
                continue
        keys[kept] = key
        kept += 1
    return kept


@inlined
def _settle(request: Any, keys: Any, count: int, k: int, bar: int, bar_ad: int) -> Any:
    """Bring the best k eligible ones of the first keys to the front, or all there are.

    Returns:
        How many keys are left; those beyond k were not tested, or were not good
        enough.
    """
    settled = 0
    rare = False
    while settled < min(k, count):
        # Where most ads fail, choosing whom to test costs more than testing all.
        end = count if rare else min(k, count)
        if end < count:
            select(keys[settled:], count - settled, end - settled)
        kept = _test(request, keys, settled, end, bar, bar_ad)
        rare = 2 * (kept - settled) < end - settled
        failed = end - kept
        filled = min(failed, count - end)
        keys[kept : kept + filled] = keys[count - filled : count]
        count -= failed
        settled = kept
    if settled > k:
        select(keys, settled, k)
    return count


@inlined
def _prune(
    request: Any, keys: Any, count: int, k: int, bar: int, bar_ad: int
) -> tuple[Any, Any, Any]:
    """Drop what cannot be among the best k eligible ones of the first keys.

    Returns:
        How many are left, the bar and the greatest ad id with which another ad
        of the bar's score could still enter. The first k are eligible; any
        others are equals of the k-th.
    """
    count = _settle(request, keys, count, k, bar, bar_ad)
    if count <= k:
        return count, bar, bar_ad
    if keys[k - 1] >> SLOT_BITS > bar:
        bar = keys[k - 1] >> SLOT_BITS
        bar_ad = LAST_AD
    kept = k
    for i in range(k, count):
        if keys[i] >> SLOT_BITS == bar:
            keys[kept] = keys[i]
            kept += 1
    if kept - k <= (len(keys) - k) // 4:
        return kept, bar, bar_ad
    # So many equals that the buffer would not empty: the least ad ids stay.
    kept = _test(request, keys, k, kept, bar, bar_ad)
    if kept == k:
        return k, bar, bar_ad
    better = 0
    for i in range(kept):
        if keys[i] >> SLOT_BITS > bar:
            keys[i], keys[better] = keys[better], keys[i]
            better += 1
    table, tail_first, tail_ad_ids = request[:3]
    ads = _ads_of(table, tail_first, tail_ad_ids, keys[better:kept])
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
    all_ads = _ads_of(table, tail_first, tail_ad_ids, keys[:count])
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
    fixed(int32),
    fixed(int32),
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
        scores: [N] int32 by slot, or by place in `touched`.
        touched: [>= touched_count] int32, distinct slots to look at.
        touched_count: how many, or -1 to look at all slots.
        least: scores below this are not wanted.
        dead: [N] int64, epoch from which a slot is not seen.
        epoch: the view's.
        pages: [N / PAGE_SLOTS] int32, the pool page of each run of slots.
        states: [P, PAGE_SLOTS] STATE, the pool.
        now_ms, seed: the request's.
        allowed: [R] uint8, whether the request satisfies each rule set; number 0
            holds for all.
        mask: [N] uint8, 0 excludes the slot; empty excludes none.
        keys: [>= K + 4 * RUN_SLOTS] int64 scratch; several times K serves well.
        top_scores: [K] int32, the result, as are the following.
        top_ads: [K] int64.
        top_slots: [K] int32.

    Returns:
        How many were found, sorted from best to worst.
    """
    k = len(top_ads)
    request = (
        table,
        tail_first,
        tail_ad_ids,
        tail_targeting,
        dead,
        epoch,
        pages,
        states,
        now_ms,
        seed,
        allowed,
        mask,
    )
    found = np.int64(0)
    bar = np.int64(least)
    bar_ad = LAST_AD
    looked_at = touched[: max(0, touched_count)]
    room = len(keys)
    for part in range(table.shape[0] + 1 if touched_count < 0 else 1):
        if touched_count >= 0:
            place, end = np.int64(0), np.int64(touched_count)
        elif part < table.shape[0]:
            place = table[part, shards.FIRST_SLOT]
            end = place + table[part, shards.ADS]
        else:
            place, end = np.int64(tail_first), np.int64(tail_first + tail_ads)
        while place < end:
            place, found = _scan(scores, looked_at, place, end, bar, keys[:room], found)
            if place < end:
                found, bar, bar_ad = _prune(request, keys, found, k, bar, bar_ad)
                room = min(len(keys), found + max(LATER_SHARE * k, 4 * RUN_SLOTS))
    found, bar, bar_ad = _prune(request, keys, found, k, bar, bar_ad)
    if found > k:
        found = _test(request, keys, k, found, bar, bar_ad)
    _deliver(table, tail_first, tail_ad_ids, keys, found, top_scores, top_ads, top_slots)
    return int(min(found, k))
