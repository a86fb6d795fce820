"""Visits made of events, where nobody logged what was shown.

Owns the substitute for impressions: a visit is a user in a period who did something with at least
one of the items that were advertised in it. Promises features as of the period's start, and the
same rows from the same tables.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from model.features import Encoder
from model.schema import Schema

SEED = 0


def visits_of_events(events: pa.Table, ads: pa.Table, schema: Schema, negatives: int) -> pa.Table:
    """What users could see, and what they took of it.

    Args:
        events, ads: as `model.tables` has them.
        schema: its first item field says what an ad and an event are of.
        negatives: passed-over ads of one that was taken, drawn uniformly from the period's.

    Returns:
        As `TrainingTables.visits`: engage is one event with the item or more, consume two or more.
        The context is that of the user's first such event.
    """
    encoder = Encoder(schema)
    draw = np.random.default_rng(SEED)
    items = encoder.items_from_table(ads)[:, 0]
    met = encoder.items_from_table(events)[:, 0]
    users, times = (events[name].to_numpy() for name in ("user_id", "time_ms"))
    weeks, starts, ends = (ads[name].to_numpy() for name in ("week", "start_ms", "end_ms"))
    parts: list[tuple[np.ndarray, ...]] = []
    for week in np.unique(weeks):
        (shown,) = np.nonzero(weeks == week)
        begin_ms, end_ms = starts[shown].min(), ends[shown].max()
        low, high = np.searchsorted(times, [begin_ms, end_ms])
        taken = low + np.flatnonzero(np.isin(met[low:high], items[shown]))
        for user in np.unique(users[taken]):
            own = taken[users[taken] == user]
            values, counts = np.unique(met[own], return_counts=True)
            at = np.minimum(np.searchsorted(values, items[shown]), len(values) - 1)
            count = np.where(values[at] == items[shown], counts[at], 0)
            passed = np.flatnonzero(count == 0)
            wanted = min(len(passed), negatives * int((count > 0).sum()))
            rows = np.concatenate((np.flatnonzero(count), draw.choice(passed, wanted, False)))
            visit = np.full(len(rows), len(parts))
            parts.append(
                (shown[rows], count[rows], visit, visit * 0 + own[0], visit * 0 + begin_ms)
            )
    if not parts:
        parts = [tuple(np.zeros(0, np.int64) for _ in range(5))]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    ad, count, visit, event, now_ms = columns
    sources = {schema.source(name) for name in schema.context_fields}
    context = [name for name in events.column_names if name in sources]
    kept = [name for name in ads.column_names if name not in {"week", "start_ms", "end_ms"}]
    return pa.table(
        {
            "user_id": users[event],
            "time_ms": now_ms,
            "visit_id": visit,
            **{name: ads[name].take(ad) for name in kept},
            **{name: events[name].take(event) for name in context if name not in kept},
            "engage": (count > 0).astype(np.int8),
            "consume": (count > 1).astype(np.int8),
        }
    )
