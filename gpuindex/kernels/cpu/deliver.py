"""Delivery states written to pages, a page that a view may hold copied first."""

from typing import Any

from . import shards
from .compiled import fixed, float32, int32, int64, kernel, uint8, written
from .states import ACTIVE, FUNDED, delivery_record, state_record


@kernel(
    fixed(int32),
    fixed(int32),
    uint8,
    written(int32),
    written(uint8),
    fixed(int32),
    written(int32),
    written(state_record, 2),
    written(float32, 2),
    fixed(delivery_record),
)
def deliver(
    slots: Any,
    rows: Any,
    unseen: int,
    pages: Any,
    fresh: Any,
    free: Any,
    retired: Any,
    states: Any,
    biases: Any,
    delivery: Any,
) -> int:
    """Copy the delivery states of rows to slots.

    W writes, P pages in the pool, R rows.

    Args:
        slots: [W] int32.
        rows: [W] int32.
        unseen: 1 if no view sees these slots, which allows writing in place.
        pages: [slots / PAGE_SLOTS] int32, each run of slots' page; changed
            where a page is copied.
        fresh: [P] uint8, 1 = no view holds this page; changed likewise.
        free: [...] int32, pages that may be taken, the first ones first; one for
            each page of `slots` suffices.
        retired: [>= W] int32, the result: pages replaced.
        states: [P, PAGE_SLOTS] STATE, the pool.
        biases: [P, PAGE_SLOTS] float32, the pool.
        delivery: [R] DELIVERY.

    Returns:
        How many pages were taken, which is also how many were retired.
    """
    taken = 0
    for w in range(len(slots)):
        run = slots[w] // shards.PAGE_SLOTS
        place = slots[w] % shards.PAGE_SLOTS
        page = pages[run]
        if unseen == 0 and fresh[page] == 0:
            copy = free[taken]
            states[copy] = states[page]
            biases[copy] = biases[page]
            fresh[copy] = 1
            pages[run] = copy
            retired[taken] = page
            taken += 1
            page = copy
        source = delivery[rows[w]]
        state = states[page, place]
        state.start_ms = source.start_ms
        state.end_ms = source.end_ms
        state.pacing = source.pacing
        state.bid = source.bid
        active = ACTIVE if source.active else 0
        funded = FUNDED if source.budget_left > 0 else 0
        state.gate = active | funded
        biases[page, place] = source.bias
    return taken


@kernel(
    fixed(int32),
    fixed(int64),
    fixed(uint8),
    written(int64),
    written(uint8),
)
def supersede(
    record_rows: Any, record_versions: Any, resets: Any, versions: Any, outcomes: Any
) -> int:
    """Decide, in arrival order, which delivery records are news.

    Args:
        record_rows: [B] int32.
        record_versions: [B] int64; on a reset -1 stands for the known one + 1.
        resets: [B] uint8.
        versions: [R] int64, each row's known version, -1 = none; raised.
        outcomes: [B] uint8, the result: 1 = news.

    Returns:
        How many are.
    """
    news = 0
    for b in range(len(record_rows)):
        row = record_rows[b]
        version = record_versions[b]
        if version < 0 and resets[b] != 0 and versions[row] >= 0:
            version = versions[row] + 1
        outcomes[b] = version > versions[row] and version >= 0
        if outcomes[b] != 0:
            versions[row] = version
            news += 1
    return news
