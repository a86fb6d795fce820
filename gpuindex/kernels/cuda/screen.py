"""Which slots a request may get: the eligible ones, gathered side by side.

Unlike the CPU, which tests an ad only once its score could still enter, every
slot is tested at once; neighbouring lanes read neighbouring states.
"""

from typing import Any

import numpy as np
from numba import cuda

from ..cpu.draws import paced
from ..cpu.shards import AD_IDS, ADS, FIRST_SLOT, PAGE_SLOTS, TARGETING
from ..cpu.states import OPEN, STATE
from .compiled import FULL_WARP, array, inlined, int32, int64, kernel, load, record, uint8

THREADS = 256

state_record = record(STATE)


@inlined
def eligible(
    slot: int,
    ad_id: int,
    rules: int,
    dead: Any,
    epoch: int,
    pages: Any,
    states: Any,
    now_ms: int,
    seed: int,
    allowed: Any,
    mask: Any,
) -> Any:
    """Whether the request may get the ad at a slot; arguments as in `topk`."""
    if dead[slot] <= epoch or (mask.shape[0] > 0 and mask[slot] == 0):
        return False
    state = states[pages[slot // PAGE_SLOTS], slot % PAGE_SLOTS]
    if state.gate != OPEN or now_ms < state.start_ms or now_ms >= state.end_ms:
        return False
    if allowed.shape[0] > 1 and allowed[rules] == 0:
        return False
    return state.pacing >= 1 or paced(seed, ad_id) < state.pacing


@inlined
def append(
    taken: bool, score: int, slot: int, found: Any, near_scores: Any, near_slots: Any
) -> None:
    """Append the slots that a warp's lanes take; every lane calls it."""
    lanes = cuda.ballot_sync(FULL_WARP, taken)
    lane = cuda.laneid
    first = np.int32(0)
    if lane == 0:
        first = cuda.atomic.add(found, 0, cuda.popc(lanes))
    first = cuda.shfl_sync(FULL_WARP, first, 0)
    if taken:
        at = first + cuda.popc(lanes & ((1 << lane) - 1))
        near_scores[at] = score
        near_slots[at] = slot


@kernel(
    array(int64, 2),
    int64,
    int64,
    int64,
    int64,
    array(int32),
    int64,
    array(int64),
    int64,
    array(int32),
    array(state_record, 2),
    int64,
    int64,
    array(uint8),
    array(uint8),
    array(int32),
    array(int32),
    array(int32),
    threads=THREADS,
    registers=56,
)
def screen(
    table: Any,
    tail_first: int,
    tail_ads: int,
    tail_ad_ids: int,
    tail_targeting: int,
    scores: Any,
    least: int,
    dead: Any,
    epoch: int,
    pages: Any,
    states: Any,
    now_ms: int,
    seed: int,
    allowed: Any,
    mask: Any,
    found: Any,
    near_scores: Any,
    near_slots: Any,
) -> None:
    """Gather the eligible slots of all shards and the tail, a thread per slot.

    Args:
        table to mask: as in `topk`; `tail_ad_ids`, `tail_targeting`: addresses.
        found: [1] int32, zero before; how many were gathered.
        near_scores, near_slots: [N] int32, written.
    """
    for part in range(table.shape[0] + 1):
        if part < table.shape[0]:
            first = table[part, FIRST_SLOT]
            ads = table[part, ADS]
            ad_ids = table[part, AD_IDS]
            targeting = table[part, TARGETING]
        else:
            first = np.int64(tail_first)
            ads = np.int64(tail_ads)
            ad_ids = np.int64(tail_ad_ids)
            targeting = np.int64(tail_targeting)
        # By whole blocks, so that no lane of a warp is missing from a vote.
        begin = np.int64(cuda.blockIdx.x) * THREADS
        while begin < ads:
            ad = begin + cuda.threadIdx.x
            slot = first + ad
            taken = False
            score = np.int32(0)
            if ad < ads:
                score = scores[slot]
                if score >= least:
                    ad_id = load(ad_ids + 8 * ad, np.int64)
                    rules = load(targeting + 4 * ad, np.int32)
                    taken = eligible(
                        slot,
                        ad_id,
                        rules,
                        dead,
                        epoch,
                        pages,
                        states,
                        now_ms,
                        seed,
                        allowed,
                        mask,
                    )
            append(taken, score, slot, found, near_scores, near_slots)
            begin += cuda.gridsize(1)
