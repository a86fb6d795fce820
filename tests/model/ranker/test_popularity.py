"""Claims about popularity: strictly before its time, and frozen by the same counting."""

from __future__ import annotations

import numpy as np

from model.ranker.matches import DAY_MS
from model.ranker.popularity import PER_EVENTS, PopularityHistory, PopularityTable

DAYS = (2.0, 30.0)


def history(seed: int = 0) -> tuple[np.ndarray, np.ndarray, PopularityHistory]:
    random = np.random.default_rng(seed)
    time_ms = random.integers(0, 10 * DAY_MS, 200)
    ids = random.integers(0, 6, (200, 2))
    return time_ms, ids, PopularityHistory(time_ms, ids, ("product", "type"), DAYS)


def test_rates_equal_brute_force_as_of_each_time() -> None:
    time_ms, ids, popularity = history()
    random = np.random.default_rng(1)
    now_ms, asked = random.integers(0, 12 * DAY_MS, 50), random.integers(0, 8, (50, 2))
    rates = popularity.as_of(now_ms, asked)
    for n in range(50):
        for f in range(2):
            for w, days in enumerate(DAYS):
                window = (time_ms < now_ms[n]) & (time_ms >= now_ms[n] - days * DAY_MS)
                hits = (window & (ids[:, f] == asked[n, f]) & (asked[n, f] != 0)).sum()
                expected = hits * PER_EVENTS / window.sum() if window.any() else -1.0
                np.testing.assert_allclose(rates[n, f * 2 + w], expected, rtol=1e-5)


def test_a_frozen_table_reads_as_its_time_did() -> None:
    _, _, popularity = history()
    asked = np.random.default_rng(2).integers(0, 8, (40, 2))
    table = popularity.freeze(9 * DAY_MS)
    expected = popularity.as_of(np.full(40, 9 * DAY_MS), asked)
    np.testing.assert_array_equal(table.look_up(asked), expected)


def test_a_table_survives_its_tensors() -> None:
    _, _, popularity = history()
    table = popularity.freeze(9 * DAY_MS)
    restored = PopularityTable.from_tensors(table.tensors(), fields=2, windows=2)
    asked = np.random.default_rng(3).integers(0, 8, (40, 2))
    np.testing.assert_array_equal(restored.look_up(asked), table.look_up(asked))
