"""Claims about the population: strictly before its time, and frozen by the same counting."""

from __future__ import annotations

import numpy as np
import pytest

from model.ranker.matches import DAY_MS
from model.ranker.population import PopulationHistory, PopulationTable, Records

DAYS = (2.0, 30.0)
PRIOR = 5.0


def draw(prior: float, seed: int = 0) -> Records:
    random = np.random.default_rng(seed)
    time_ms = random.integers(0, 10 * DAY_MS, 200)
    values = random.normal(size=200).astype(np.float32)
    return Records(time_ms, random.integers(0, 6, (200, 2)), values, prior)


@pytest.mark.parametrize("prior", [0.0, PRIOR])
def test_shares_and_means_equal_brute_force_as_of_each_time(prior: float) -> None:
    records = draw(prior)
    random = np.random.default_rng(1)
    now_ms, asked = random.integers(0, 12 * DAY_MS, 50), random.integers(0, 8, (50, 2))
    found = PopulationHistory(records, DAYS).as_of(now_ms, asked).reshape(50, 2, len(DAYS), 2)
    for n in range(50):
        for f in range(2):
            for w, days in enumerate(DAYS):
                start = now_ms[n] - days * DAY_MS
                window = (records.time_ms < now_ms[n]) & (records.time_ms >= start)
                hits = window & (records.ids[:, f] == asked[n, f])
                share = hits.sum() / max(window.sum(), 1)
                overall = records.values[window].mean() if window.any() else np.nan
                total = records.values[hits].sum() + (prior * overall if prior else 0.0)
                weight = hits.sum() + prior
                mean = total / weight if weight else np.nan
                expected = [share, mean] if asked[n, f] else [np.nan, np.nan]
                np.testing.assert_allclose(found[n, f, w], expected, rtol=1e-4, atol=1e-6)


def test_a_frozen_table_reads_as_its_time_did() -> None:
    population = PopulationHistory(draw(PRIOR), DAYS)
    asked = np.random.default_rng(2).integers(0, 8, (40, 2))
    table = population.freeze(9 * DAY_MS)
    expected = population.as_of(np.full(40, 9 * DAY_MS), asked)
    np.testing.assert_array_equal(table.look_up(asked), expected)


def test_a_table_survives_its_tensors() -> None:
    table = PopulationHistory(draw(0.0), DAYS).freeze(9 * DAY_MS)
    restored = PopulationTable.from_tensors(table.tensors(), fields=2)
    asked = np.random.default_rng(3).integers(0, 8, (40, 2))
    np.testing.assert_array_equal(restored.look_up(asked), table.look_up(asked))
