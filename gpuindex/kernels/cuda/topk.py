"""The exact K best eligible ads on a GPU, higher score first, then lower ad id.

Eligible slots are gathered first (`screen`). The K-th best of them is found digit by digit
from the top: a pass counts how often each value of a digit occurs among those
that agree with the bar so far, and the digit at which the count reaches K is
the bar's next. Four digits of the score and eight of the ad id make the bar
exact, ties included. What is not worse than the bar is collected and ranked.
"""

from typing import Any

import numpy as np
from numba import cuda

from . import shards
from .compiled import WARP_LANES, array, inlined, int32, int64, kernel, prefix_sum
from .device import current, spread
from .screen import screen

THREADS = 256

DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS
SCORE_PASSES = 4
PASSES = SCORE_PASSES + 8

# The bar: how far below the best possible score, the ad id, and how many are
# wanted among those that agree with it so far.
DEPTH, AD, WANTED = range(3)
BAR_FIELDS = 3

BEST_SCORE = np.iinfo(np.int32).max
LOWEST_SCORE = np.iinfo(np.int32).min
LAST_AD = np.iinfo(np.int64).max

# So many chosen ads take 67 million comparisons to rank; more are sorted.
MOST_RANKED = 8_192


@inlined
def shift_of(digit: int) -> Any:
    """The lowest bit of a pass's digit, in the score's depth or in the ad id."""
    if digit < SCORE_PASSES:
        return (SCORE_PASSES - 1 - digit) * DIGIT_BITS
    return (PASSES - 1 - digit) * DIGIT_BITS


@inlined
def raise_bar(digit: int, bars: Any, histograms: Any, bar: Any) -> None:
    """The bar after a digit's pass, by the lanes of one warp.

    Each lane looks after eight values of the digit.

    Args:
        digit: the pass.
        bars: [PASSES, BAR_FIELDS] int64, the bar before each pass.
        histograms: [PASSES, DIGITS] int32, what each pass counted.
        bar: [BAR_FIELDS] int64, written.
    """
    lane = cuda.laneid
    wanted = bars[digit, WANTED]
    share = DIGITS // WARP_LANES
    own = np.int32(0)
    for i in range(share):
        own = np.int32(own + histograms[digit, lane * share + i])
    through = prefix_sum(own)
    value = np.int64(-1)
    if lane == WARP_LANES - 1 and through < wanted:
        # Fewer than wanted in all: everything is good enough. Ad ids have 63
        # bits, so their first digit ends at 127.
        value = np.int64(DIGITS // 2 - 1 if digit == SCORE_PASSES else DIGITS - 1)
    elif through - own < wanted and wanted <= through:
        value = np.int64(lane * share)
        wanted -= through - own
        while histograms[digit, value] < wanted:
            wanted -= histograms[digit, value]
            value += 1
    if value >= 0:
        part = value << shift_of(digit)
        bar[DEPTH] = bars[digit, DEPTH]
        bar[AD] = bars[digit, AD]
        bar[WANTED] = wanted
        if digit < SCORE_PASSES:
            bar[DEPTH] |= part
        else:
            bar[AD] |= part


@kernel(
    array(int64, 2),
    int64,
    int64,
    int64,
    array(int32),
    array(int32),
    array(int32),
    array(int64, 2),
    array(int32, 2),
    threads=THREADS,
    registers=40,
    shared_bytes=8 * BAR_FIELDS + 4 * DIGITS,
)
def count_digit(
    table: Any,
    tail_first: int,
    tail_ad_ids: int,
    digit: int,
    found: Any,
    near_scores: Any,
    near_slots: Any,
    bars: Any,
    histograms: Any,
) -> None:
    """One pass: count the values of a digit among those that agree with the bar.

    Args:
        table, tail_first, tail_ad_ids, found, near_scores, near_slots: from
            `screen`.
        digit: the pass, 0..PASSES - 1.
        bars: [PASSES, BAR_FIELDS] int64, row 0 given; row `digit` is written.
        histograms: [PASSES, DIGITS] int32, zero before.
    """
    bar = cuda.shared.array(BAR_FIELDS, np.int64)
    counts = cuda.shared.array(DIGITS, np.int32)
    thread = cuda.threadIdx.x
    counts[thread] = 0
    if digit == 0:
        if thread < BAR_FIELDS:
            bar[thread] = bars[0, thread]
    elif thread < WARP_LANES:
        raise_bar(digit - 1, bars, histograms, bar)
    cuda.syncthreads()
    if digit > 0 and cuda.blockIdx.x == 0 and thread < BAR_FIELDS:
        bars[digit, thread] = bar[thread]
    shift = shift_of(digit)
    i = cuda.grid(1)
    while i < found[0]:
        value = np.int64(BEST_SCORE) - near_scores[i]
        agrees = True
        bound = bar[DEPTH]
        if digit >= SCORE_PASSES:
            agrees = value == bound
            bound = bar[AD]
            if agrees:
                value = shards.ad_at(table, tail_first, tail_ad_ids, near_slots[i])
        if agrees and (value >> shift) >> DIGIT_BITS == (bound >> shift) >> DIGIT_BITS:
            cuda.atomic.add(counts, (value >> shift) & (DIGITS - 1), 1)
        i += cuda.gridsize(1)
    cuda.syncthreads()
    if counts[thread] > 0:
        cuda.atomic.add(histograms, (digit, thread), counts[thread])


@kernel(
    array(int64, 2),
    int64,
    int64,
    array(int32),
    array(int32),
    array(int32),
    array(int64, 2),
    array(int32, 2),
    array(int32),
    array(int32),
    array(int64),
    array(int32),
    threads=THREADS,
    registers=32,
    shared_bytes=8 * BAR_FIELDS,
)
def collect(
    table: Any,
    tail_first: int,
    tail_ad_ids: int,
    found: Any,
    near_scores: Any,
    near_slots: Any,
    bars: Any,
    histograms: Any,
    chosen: Any,
    chosen_scores: Any,
    chosen_ads: Any,
    chosen_slots: Any,
) -> None:
    """Copy what is not worse than the bar, in any order.

    Args:
        table to histograms: from the last pass of `count_digit`.
        chosen: [1] int32, zero before; how many were copied.
        chosen_scores: [K] int32, written, as are the following.
        chosen_ads: [K] int64.
        chosen_slots: [K] int32.
    """
    bar = cuda.shared.array(BAR_FIELDS, np.int64)
    if cuda.threadIdx.x < WARP_LANES:
        raise_bar(PASSES - 1, bars, histograms, bar)
    cuda.syncthreads()
    i = cuda.grid(1)
    while i < found[0]:
        depth = np.int64(BEST_SCORE) - near_scores[i]
        if depth <= bar[DEPTH]:
            ad_id = shards.ad_at(table, tail_first, tail_ad_ids, near_slots[i])
            if depth < bar[DEPTH] or ad_id <= bar[AD]:
                at = cuda.atomic.add(chosen, 0, 1)
                chosen_scores[at] = near_scores[i]
                chosen_ads[at] = ad_id
                chosen_slots[at] = near_slots[i]
        i += cuda.gridsize(1)


@kernel(
    array(int32),
    array(int32),
    array(int64),
    array(int32),
    array(int32),
    array(int64),
    array(int32),
    threads=THREADS,
    registers=40,
)
def rank(
    chosen: Any,
    chosen_scores: Any,
    chosen_ads: Any,
    chosen_slots: Any,
    top_scores: Any,
    top_ads: Any,
    top_slots: Any,
) -> None:
    """Write each chosen ad at its rank: the number of better ones.

    A thread per chosen ad. That is K * K comparisons, all lanes reading the
    same entry: for the few thousand that a ranker takes, less than the launches
    of a sort.
    """
    count = chosen[0]
    i = cuda.grid(1)
    while i < count:
        score = chosen_scores[i]
        ad_id = chosen_ads[i]
        place = 0
        for other in range(count):
            if chosen_scores[other] > score or (
                chosen_scores[other] == score and chosen_ads[other] < ad_id
            ):
                place += 1
        top_scores[place] = score
        top_ads[place] = ad_id
        top_slots[place] = chosen_slots[i]
        i += cuda.gridsize(1)


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

    Arguments as in the CPU twin, in device memory; `keys` is not used. The host
    waits once, for the number found.

    Returns:
        How many were found, sorted from best to worst.
    """
    arrays = current().arrays
    found = arrays.zeros(1, np.int32)
    if touched_count >= 0:
        # Here every slot is looked at: the others get a score that is not wanted.
        by_place = scores
        scores = arrays.empty(len(dead), np.int32)
        scores[:] = least - 1
        scores[touched[:touched_count]] = by_place[:touched_count]
    begin(
        table,
        tail_first,
        tail_ads,
        tail_ad_ids,
        tail_targeting,
        scores,
        least,
        (dead, epoch, pages, states, now_ms, seed, allowed, mask),
        found,
        (top_scores, top_ads, top_slots),
    )
    return int(found[0])


def begin(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_ad_ids: Any,
    tail_targeting: Any,
    scores: Any,
    least: int,
    request: tuple[Any, ...],
    chosen: Any,
    best: tuple[Any, Any, Any],
) -> None:
    """Launch what `topk` does, and wait for nothing.

    Args:
        table to least: as in `topk`; every slot with an ad has a score.
        request: `dead` to `mask` of `topk`.
        chosen: [1] int32, zero before; how many are found.
        best: `top_scores`, `top_ads` and `top_slots` of `topk`.
    """
    device = current()
    arrays = device.arrays
    k = len(best[0])
    places = len(scores)
    ad_ids = device.address(tail_ad_ids)
    targeting = device.address(tail_targeting)
    found = arrays.zeros(1, np.int32)
    near = (found, arrays.empty(places, np.int32), arrays.empty(places, np.int32))
    tail = (tail_ads, ad_ids, targeting)
    spread(screen, places, table, tail_first, *tail, scores, least, *request, *near)

    bars = arrays.zeros((PASSES, BAR_FIELDS), np.int64)
    bars[0, WANTED] = k
    histograms = arrays.zeros((PASSES, DIGITS), np.int32)
    parts = (table, tail_first, ad_ids)
    for digit in range(PASSES):
        spread(count_digit, places, *parts, digit, *near, bars, histograms)
    # Behind everything that can be found, for a sort that does not know how much was.
    unordered = (
        arrays.full(k, LOWEST_SCORE, np.int32),
        arrays.full(k, LAST_AD, np.int64),
        arrays.empty(k, np.int32),
    )
    spread(collect, places, *parts, *near, bars, histograms, chosen, *unordered)
    if k <= MOST_RANKED:
        spread(rank, k, chosen, *unordered, *best)
        return
    depths = BEST_SCORE - unordered[0].astype(np.int64)
    order = arrays.lexsort(arrays.stack((unordered[1], depths)))
    for target, source in zip(best, unordered, strict=True):
        target[:] = source[order]
