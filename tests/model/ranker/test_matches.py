"""Claims about hard matches: exact against brute force, missing never matches, nothing ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ranker.config import MatchPair
from model.ranker.matches import (
    DAY_MS,
    HABITS,
    Events,
    HardMatcher,
    Prefixes,
    count_prefixes,
    positions_at,
)

HISTORY, ITEM = ("product", "type"), ("slot", "type", "product")
DECAYS = (1.0, 4.0)
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
    ids = random.integers(0, 5, (len(owners), len(HISTORY)))
    events = Events(owners, time_ms, ids, random.normal(size=len(owners)).astype(np.float32))
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
    found = HardMatcher(events, PAIRS, HISTORY, ITEM, DECAYS).match(prefixes, items)
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
        matched = [i for i in own if events.ids[i, 0] == items[n, 2] and items[n, 2] != 0]
        expected = habits(events, matched, len(own), now)
        # Sums of values are in millionths.
        np.testing.assert_allclose(found.habits[n, : len(expected)], expected, 1e-4, 2e-5)


def habits(events: Events, matched: list[int], prefix: int, now_ms: int) -> list[float]:
    """The columns of one field pair, by their definitions."""
    if not matched:
        return [np.nan] * (len(HABITS) + len(DECAYS))
    ages = [(now_ms - int(events.time_ms[i])) / DAY_MS for i in matched]
    days = {int(events.time_ms[i]) // DAY_MS for i in matched}
    gap = (ages[0] - ages[-1]) / (len(days) - 1) if len(days) > 1 else np.nan
    return [
        ages[-1],
        ages[0],
        gap,
        ages[-1] / np.maximum(gap, 0.5),
        len(days),
        len(matched) / prefix,
        sum(float(events.values[i]) for i in matched),
        float(events.values[matched[-1]]),
        *(sum(np.exp(-age / days) for age in ages) for days in DECAYS),
    ]


def test_decayed_counts_do_not_fade_beside_events_of_other_years() -> None:
    """Sums of ever larger exponentials would lose the early owner's events altogether."""
    owners = np.repeat([0, 1], [2, 1])
    time_ms = np.array([0, DAY_MS, 30 * 365 * DAY_MS])
    events = Events(owners, time_ms, np.full((3, 1), 7), np.ones(3, np.float32))
    prefix = Prefixes(*(np.array([value]) for value in (0, 0, 2, 2 * DAY_MS)))
    pairs = (MatchPair("product", "product"),)
    found = HardMatcher(events, pairs, ("product",), ("product",), (1.0,)).match(
        prefix, np.array([[7]])
    )
    np.testing.assert_allclose(found.habits[0, -1], np.exp(-2) + np.exp(-1), rtol=1e-6)


def test_an_event_at_the_very_time_of_the_request_is_not_counted() -> None:
    events = Events(
        np.zeros(2, np.int64), np.array([5, 9]), np.array([[7, 1], [7, 1]]), np.ones(2, np.float32)
    )
    now = np.array([9])
    last = positions_at(events, np.zeros(1, np.int64), now)
    found = HardMatcher(events, PAIRS, HISTORY, ITEM, DECAYS).match(
        Prefixes(np.zeros(1, np.int64), np.zeros(1, np.int64), last, now), np.array([[0, 0, 7]])
    )
    assert found.counts[0, 0] == 1


def test_missing_never_matches_missing() -> None:
    events = Events(
        np.zeros(3, np.int64), np.arange(3), np.zeros((3, 2), np.int64), np.ones(3, np.float32)
    )
    prefix = Prefixes(*(np.array([value]) for value in (0, 0, 3, 10)))
    found = HardMatcher(events, PAIRS, HISTORY, ITEM, DECAYS).match(
        prefix, np.zeros((1, 3), np.int64)
    )
    assert not found.counts.any()
    assert np.isnan(found.habits).all()


def test_raw_ids_of_full_width_stay_apart() -> None:
    """Ids beyond 2^53 would collide if they ever passed through a float."""
    big = np.int64(2**62)
    events = Events(
        np.zeros(2, np.int64),
        np.arange(2),
        np.array([[big, 0], [big + 1, 0]]),
        np.ones(2, np.float32),
    )
    prefix = Prefixes(*(np.array([value] * 2) for value in (0, 0, 2, 10)))
    found = HardMatcher(events, PAIRS, HISTORY, ITEM, DECAYS).match(
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
            assert np.isnan(busy[n, 0])
