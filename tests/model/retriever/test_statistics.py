"""Claims about user statistics: right by brute force, and blind to the present and the future."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.features import History
from model.retriever.sides import statistics_before
from model.retriever.statistics import COLUMNS, DAY_MS, DECAY_DAYS, Window, summarise

EVENTS = st.lists(
    st.tuples(st.integers(0, 60 * DAY_MS), st.integers(0, 3), st.integers(0, 2)), max_size=30
)


def history_of(events: list[tuple[int, int, int]]) -> History:
    events = sorted(events, key=lambda event: event[0])
    items = np.array([(a, b and b + 10) for _, a, b in events], np.int64).reshape(-1, 2)
    times = np.array([event[0] for event in events], np.int64)
    values = np.arange(len(events), dtype=np.float32)
    return History(times, np.ones(len(events), np.int32), values, items)


def brute_force(history: History, raw_id: int, now_ms: int) -> dict[str, float]:
    rows = [at for at in range(len(history)) if raw_id in history.items[at]]
    ages = [(now_ms - int(history.time_ms[at])) / DAY_MS for at in rows]
    days = [int(history.time_ms[at]) // DAY_MS for at in rows]
    occasions = len(set(days))
    gap = (ages[0] - ages[-1]) / max(occasions - 1, 1)
    out = {
        f"count_{int(decay)}d": math.log1p(sum(math.exp(-age / decay) for age in ages))
        for decay in DECAY_DAYS
    }
    return out | {
        "count": math.log1p(len(rows)),
        "occasions": math.log1p(occasions),
        "value": math.log1p(sum(float(history.values[at]) for at in rows)),
        "recency": math.log1p(ages[-1]),
        "age": math.log1p(ages[0]),
        "gap": math.log1p(gap),
        "overdue": math.log((ages[-1] + 1) / (gap + 1)) if occasions > 1 else 0.0,
        "repeated": float(occasions > 1),
        "share": math.log(len(rows) / len(history) + 1e-4),
        "user_count": math.log1p(len(history)),
        "user_recency": math.log1p((now_ms - int(history.time_ms[-1])) / DAY_MS),
    }


@settings(deadline=None)
@given(EVENTS)
def test_statistics_agree_with_brute_force(events: list[tuple[int, int, int]]) -> None:
    """The item of every event is known here: `share` counts events that have any value."""
    history = history_of([(time, a + 1, b) for time, a, b in events])
    now_ms = 61 * DAY_MS
    found = summarise(Window.of(history.items), history, now_ms)
    present = np.unique(history.items)
    np.testing.assert_array_equal(found.ids, present[present > 0])
    np.testing.assert_array_equal(found.fields, (found.ids > 10).astype(int))
    for raw_id, row in zip(found.ids.tolist(), found.columns, strict=True):
        wanted = brute_force(history, raw_id, now_ms)
        np.testing.assert_allclose(row, [wanted[name] for name in COLUMNS], rtol=2e-5, atol=2e-5)


@settings(deadline=None)
@given(EVENTS, st.integers(0, 61 * DAY_MS), st.integers(1, 40))
def test_cutting_a_window_is_encoding_the_cut_history(
    events: list[tuple[int, int, int]], now_ms: int, kept: int
) -> None:
    """Training cuts one sorted window per moment; serving encodes what the store returned."""
    history = history_of(events)
    cut = statistics_before(history, Window.of(history.items), now_ms, kept)
    past = history.before(now_ms).newest(kept)
    fresh = summarise(Window.of(past.items), past, now_ms)
    np.testing.assert_array_equal(cut.ids, fresh.ids)
    np.testing.assert_array_equal(cut.fields, fresh.fields)
    np.testing.assert_array_equal(cut.columns, fresh.columns)


def test_no_event_no_statistics() -> None:
    empty = history_of([])
    found = summarise(Window.of(empty.items), empty, 5)
    assert found.columns.shape == (0, len(COLUMNS))
    only_missing = history_of([(1, 0, 0)])
    assert not len(summarise(Window.of(only_missing.items), only_missing, 5).ids)
