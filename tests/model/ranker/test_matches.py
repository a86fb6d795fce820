"""Claims about hard matches: exact against brute force, missing never matches, nothing ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ranker.config import MatchPair
from model.ranker.matches import (
    DAY_MS,
    GAP_SCALE,
    Events,
    HardMatcher,
    Prefixes,
    count_prefixes,
    positions_at,
)

HISTORY, ITEM = ("product", "type"), ("slot", "type", "product")
PAIRS = (
    MatchPair("product", "product"),
    MatchPair("type", "type", 3.0),
    MatchPair("product", "product", 1.0),
    # Raw ids are compared, whatever the fields are called.
    MatchPair("type", "slot"),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Events, Prefixes, np.ndarray]:
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    time_ms = random.integers(0, 6 * DAY_MS, len(owners))
    time_ms = time_ms[np.lexsort((time_ms, owners))]
    events = Events(owners, time_ms, random.integers(0, 5, (len(owners), len(HISTORY))))
    rows = draw(st.integers(0, 10))
    who = random.integers(0, len(lengths), rows)
    now = random.integers(0, 8 * DAY_MS, rows)
    last = positions_at(events, who, now)
    bounds = np.searchsorted(owners, np.arange(len(lengths)))
    first = np.minimum(np.maximum(bounds[who], last - draw(st.integers(0, 12))), last)
    return events, Prefixes(who, first, last, now), random.integers(0, 5, (rows, len(ITEM)))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_matches_equal_brute_force(case: tuple[Events, Prefixes, np.ndarray]) -> None:
    events, prefixes, items = case
    found = HardMatcher(events, PAIRS, HISTORY, ITEM).match(prefixes, items)
    for n in range(len(items)):
        own = range(int(prefixes.first[n]), int(prefixes.last[n]))
        now = int(prefixes.now_ms[n])
        for p, pair in enumerate(PAIRS):
            window = np.inf if pair.window_days is None else pair.window_days * DAY_MS
            value = items[n, ITEM.index(pair.item)]
            assert found.counts[n, p] == sum(
                value != 0
                and events.ids[i, HISTORY.index(pair.history)] == value
                and events.time_ms[i] >= now - window
                for i in own
            )
        times = [
            int(events.time_ms[i])
            for i in own
            if events.ids[i, 0] == items[n, 2] and items[n, 2] != 0
        ]
        age, gaps = found.rhythm[n, :2]
        assert age == (pytest.approx((now - times[-1]) / DAY_MS, rel=1e-5) if times else -1.0)
        if len(times) < 2 or times[-1] == times[0]:
            assert gaps == -1.0
        else:
            mean = (times[-1] - times[0]) / (len(times) - 1)
            assert gaps == pytest.approx(GAP_SCALE * (now - times[-1]) / mean, rel=1e-5)


def test_an_event_at_the_very_time_of_the_request_is_not_counted() -> None:
    events = Events(np.zeros(2, np.int64), np.array([5, 9]), np.array([[7, 1], [7, 1]]))
    now = np.array([9])
    last = positions_at(events, np.zeros(1, np.int64), now)
    found = HardMatcher(events, PAIRS, HISTORY, ITEM).match(
        Prefixes(np.zeros(1, np.int64), np.zeros(1, np.int64), last, now), np.array([[0, 0, 7]])
    )
    assert found.counts[0, 0] == 1


def test_missing_never_matches_missing() -> None:
    events = Events(np.zeros(3, np.int64), np.arange(3), np.zeros((3, 2), np.int64))
    prefix = Prefixes(*(np.array([value]) for value in (0, 0, 3, 10)))
    found = HardMatcher(events, PAIRS, HISTORY, ITEM).match(prefix, np.zeros((1, 3), np.int64))
    assert not found.counts.any()
    assert (found.rhythm == -1.0).all()


def test_raw_ids_of_full_width_stay_apart() -> None:
    """Ids beyond 2^53 would collide if they ever passed through a float."""
    big = np.int64(2**62)
    events = Events(np.zeros(2, np.int64), np.arange(2), np.array([[big, 0], [big + 1, 0]]))
    prefix = Prefixes(*(np.array([value] * 2) for value in (0, 0, 2, 10)))
    found = HardMatcher(events, PAIRS, HISTORY, ITEM).match(
        prefix, np.array([[0, 0, big], [0, 0, big + 2]])
    )
    assert found.counts[:, 0].tolist() == [1, 0]


@settings(max_examples=50, deadline=None)
@given(cases())
def test_activity_counts_the_prefix_only(case: tuple[Events, Prefixes, np.ndarray]) -> None:
    events, prefixes, _ = case
    busy = count_prefixes(events, prefixes, [2.0])
    for n in range(len(prefixes.owners)):
        own = events.time_ms[prefixes.first[n] : prefixes.last[n]]
        now = prefixes.now_ms[n]
        assert busy[n, 1] == (own >= now - 2 * DAY_MS).sum()
        if len(own):
            assert busy[n, 0] == pytest.approx((now - own[-1]) / DAY_MS)
        else:
            assert busy[n, 0] == -1.0
