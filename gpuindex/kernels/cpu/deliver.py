"""Delivery states written to pages, a page that a view may hold copied first."""

from typing import Any

from numba import types

from . import shards
from .compiled import fixed, float32, int32, int64, kernel, uint8, written
from .topk import ACTIVE, FUNDED


@kernel(
    fixed(int32),
    fixed(int32),
    uint8,
    written(int32),
    written(uint8),
    fixed(int32),
    written(int32),
    written(uint8, 2),
    written(int64, 2),
    written(int64, 2),
    written(float32, 2),
    written(float32, 2),
    written(float32, 2),
    fixed(uint8),
    fixed(int64),
    fixed(int64),
    fixed(types.float64),
    fixed(float32),
    fixed(float32),
    fixed(float32),
)
def deliver(
    slots: Any,
    rows: Any,
    unseen: int,
    pages: Any,
    fresh: Any,
    free: Any,
    retired: Any,
    gates: Any,
    starts_ms: Any,
    ends_ms: Any,
    pacing: Any,
    bids: Any,
    biases: Any,
    row_active: Any,
    row_starts_ms: Any,
    row_ends_ms: Any,
    row_budgets: Any,
    row_pacing: Any,
    row_bids: Any,
    row_biases: Any,
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
        free: [>= W] int32, pages that may be taken, the first ones first.
        retired: [>= W] int32, the result: pages replaced.
        gates to biases: [P, PAGE_SLOTS], the pool.
        row_active to row_biases: [R], the states.

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
            gates[copy] = gates[page]
            starts_ms[copy] = starts_ms[page]
            ends_ms[copy] = ends_ms[page]
            pacing[copy] = pacing[page]
            bids[copy] = bids[page]
            biases[copy] = biases[page]
            fresh[copy] = 1
            pages[run] = copy
            retired[taken] = page
            taken += 1
            page = copy
        row = rows[w]
        active = ACTIVE if row_active[row] != 0 else 0
        funded = FUNDED if row_budgets[row] > 0 else 0
        gates[page, place] = active | funded
        starts_ms[page, place] = row_starts_ms[row]
        ends_ms[page, place] = row_ends_ms[row]
        pacing[page, place] = row_pacing[row]
        bids[page, place] = row_bids[row]
        biases[page, place] = row_biases[row]
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
