"""The exact K best eligible ads, higher score first, then lower ad id.

Eligibility is tested only on ads whose score could still enter. Survivors go
to a buffer of more than K places; when it is full a selection keeps the best K
and raises the bar, which costs a constant per survivor, where a heap costs a
logarithm.
"""

from typing import Any

import numpy as np

from . import shards
from .compiled import fixed, float32, inlined, int32, int64, kernel, uint8, written

# A run of slots whose best score is below the bar is passed over at the speed
# of a vector maximum.
RUN_SLOTS = 64

# Below this length insertion sort beats partitioning.
SHORT = 16

ACTIVE = 1
FUNDED = 2
OPEN = ACTIVE | FUNDED


@inlined
def mixed(value: int) -> Any:
    """uint64 in, uint64 out, every bit depending on every bit (SplitMix64)."""
    x = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def paced(seed: int, ad_id: int) -> Any:
    """A fair draw in [0, 1) float32 for this request and ad, the same everywhere."""
    return np.float32(mixed(mixed(seed) ^ np.uint64(ad_id)) >> np.uint64(40)) * np.float32(
        1.0 / (1 << 24)
    )


@inlined
def _below(values: Any, bar: int) -> bool:
    best = values[0]
    for i in range(len(values)):
        best = max(best, values[i])
    return best < bar


@inlined
def _worst(scores: Any, count: int) -> int:
    worst = scores[0]
    for i in range(count):
        worst = min(worst, scores[i])
    return worst


@inlined
def _better(score: int, ad: int, other_score: int, other_ad: int) -> bool:
    return score > other_score or (score == other_score and ad < other_ad)


@inlined
def _swap(scores: Any, ads: Any, slots: Any, i: int, j: int) -> None:
    scores[i], scores[j] = scores[j], scores[i]
    ads[i], ads[j] = ads[j], ads[i]
    slots[i], slots[j] = slots[j], slots[i]


@inlined
def _partition(scores: Any, ads: Any, slots: Any, low: int, high: int) -> tuple[int, int]:
    """Split [low, high] at a median of three: entries up to i are not worse
    than those from j on, j < i + 3; returns (j_end, i_begin) to go on with."""
    middle = (low + high) // 2
    if _better(scores[middle], ads[middle], scores[low], ads[low]):
        _swap(scores, ads, slots, low, middle)
    if _better(scores[high], ads[high], scores[low], ads[low]):
        _swap(scores, ads, slots, low, high)
    if _better(scores[high], ads[high], scores[middle], ads[middle]):
        _swap(scores, ads, slots, middle, high)
    pivot_score = scores[middle]
    pivot_ad = ads[middle]
    i = low
    j = high
    while i <= j:
        while _better(scores[i], ads[i], pivot_score, pivot_ad):
            i += 1
        while _better(pivot_score, pivot_ad, scores[j], ads[j]):
            j -= 1
        if i <= j:
            _swap(scores, ads, slots, i, j)
            i += 1
            j -= 1
    return j, i


@inlined
def _select(scores: Any, ads: Any, slots: Any, count: int, k: int) -> None:
    """Bring the k best of the first `count` entries to the front."""
    low = 0
    high = count - 1
    while low < high:
        j, i = _partition(scores, ads, slots, low, high)
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@inlined
def _sort(scores: Any, ads: Any, slots: Any, count: int) -> None:
    """Sort the first `count` entries from best to worst."""
    lows = np.empty(64, np.int64)
    highs = np.empty(64, np.int64)
    lows[0] = 0
    highs[0] = count - 1
    depth = 1
    while depth > 0:
        depth -= 1
        low = lows[depth]
        high = highs[depth]
        while high - low >= SHORT:
            j, i = _partition(scores, ads, slots, low, high)
            # The longer side waits, so 64 places suffice for any length.
            if j - low > high - i:
                lows[depth], highs[depth] = low, j
                low = i
            else:
                lows[depth], highs[depth] = i, high
                high = j
            depth += 1
        for i in range(low + 1, high + 1):
            j = i
            while j > low and _better(scores[j], ads[j], scores[j - 1], ads[j - 1]):
                _swap(scores, ads, slots, j, j - 1)
                j -= 1


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
    int64,
    fixed(int64),
    int64,
    fixed(int32),
    fixed(uint8, 2),
    fixed(int64, 2),
    fixed(int64, 2),
    fixed(float32, 2),
    int64,
    int64,
    fixed(uint8),
    fixed(uint8),
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
    k: int,
    dead: Any,
    epoch: int,
    pages: Any,
    gates: Any,
    starts_ms: Any,
    ends_ms: Any,
    pacing: Any,
    now_ms: int,
    seed: int,
    allowed: Any,
    mask: Any,
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
        least: scores below this are not wanted.
        k: how many; >= 1.
        dead: [N] int64, epoch from which a slot is not seen.
        epoch: the view's.
        pages: [N / PAGE_SLOTS] int32, the pool page of each run of slots.
        gates: [P, PAGE_SLOTS] uint8, ACTIVE and FUNDED bits.
        starts_ms, ends_ms: [P, PAGE_SLOTS] int64, flight [start, end).
        pacing: [P, PAGE_SLOTS] float32, share of requests an ad takes part in.
        now_ms, seed: the request's.
        allowed: [R] uint8, whether the request satisfies each rule set.
        mask: [N] uint8, 0 excludes the slot; empty excludes none.
        top_scores: [capacity > k] int32, the result.
        top_ads: [capacity] int64, the result.
        top_slots: [capacity] int32, the result.

    Returns:
        How many were found, sorted from best to worst.
    """
    found = 0
    bar = least
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
        if touched_count >= 0:
            begin = touched_bounds[part]
            end = touched_bounds[part + 1]
        else:
            begin = 0
            end = (ads + RUN_SLOTS - 1) // RUN_SLOTS
        for step in range(begin, end):
            if touched_count >= 0:
                slot = np.int64(touched[step])
                run_first = slot
                run_end = slot + 1
            else:
                run_first = first + step * RUN_SLOTS
                run_end = min(run_first + RUN_SLOTS, first + ads)
                if _below(scores[run_first:run_end], bar):
                    continue
            for slot in range(run_first, run_end):
                value = scores[slot]
                if touched_count >= 0:
                    scores[slot] = 0
                    # The second visit to a slot that came twice.
                    if value == 0:
                        continue
                if value < bar or dead[slot] <= epoch:
                    continue
                if len(mask) > 0 and mask[slot] == 0:
                    continue
                page = pages[slot // shards.PAGE_SLOTS]
                place = slot % shards.PAGE_SLOTS
                if gates[page, place] != OPEN:
                    continue
                if now_ms < starts_ms[page, place] or now_ms >= ends_ms[page, place]:
                    continue
                if allowed[targeting[slot - first]] == 0:
                    continue
                ad_id = ad_ids[slot - first]
                share = pacing[page, place]
                if share < 1 and paced(seed, ad_id) >= share:
                    continue
                top_scores[found] = value
                top_ads[found] = ad_id
                top_slots[found] = slot
                found += 1
                if found == len(top_scores):
                    _select(top_scores, top_ads, top_slots, found, k)
                    found = k
                    bar = np.int64(_worst(top_scores, k))
    if found > k:
        _select(top_scores, top_ads, top_slots, found, k)
        found = k
    _sort(top_scores, top_ads, top_slots, found)
    return found
