"""A corner shop: all items are for sale all the time, and users buy few kinds again and again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from model.schema import Schema
from model.tables import TrainingTables

DAY_MS = 86_400_000
USERS, ITEMS, EVENTS, PERIODS = 24, 150, 1_500, 3
NOW_MS = PERIODS * 30 * DAY_MS
SCHEMA = Schema(("product", "kind"), ("age",), ("store",), ("buy",))


def tables() -> TrainingTables:
    """Each user buys a few items of one kind again and again."""
    draw = np.random.default_rng(0)
    user = draw.integers(USERS, size=EVENTS)
    item = (user % 3 + 3 * (draw.geometric(0.1, size=EVENTS) + user)) % ITEMS
    live = np.arange(PERIODS * ITEMS)
    text, number = pa.string(), pa.int64()
    visits = pa.schema(
        [(name, number) for name in ("user_id", "time_ms", "visit_id", "ad_id")]
        + [("product", text), ("kind", text), ("engage", pa.int8()), ("consume", pa.int8())]
    )
    return TrainingTables(
        events=pa.table(
            {
                "user_id": user,
                "time_ms": np.sort(draw.integers(NOW_MS, size=EVENTS)),
                "action": ["buy"] * EVENTS,
                "value": draw.uniform(1, 9, EVENTS),
                "product": [f"p{at}" for at in item],
                "kind": [f"k{at % 3}" for at in item],
            }
        ),
        users=pa.table({"user_id": np.arange(USERS), "age": ["a"] * USERS}),
        ads=pa.table(
            {
                "ad_id": live % ITEMS,
                "week": (live // ITEMS).astype(np.int32),
                "start_ms": live // ITEMS * 30 * DAY_MS,
                "end_ms": (live // ITEMS + 1) * 30 * DAY_MS,
                "product": [f"p{at % ITEMS}" for at in live],
                "kind": [f"k{at % ITEMS % 3}" for at in live],
            }
        ),
        visits=visits.empty_table(),
    )
