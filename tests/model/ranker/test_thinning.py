"""Claims about stochastic length: what it keeps, and what that costs in expectation."""

from __future__ import annotations

import numpy as np
import pytest

from model.ranker.thinning import Thinning

LONGEST, ALPHA = 256, 1.6


def test_expected_pairs_stay_within_the_budget() -> None:
    """Whole with probability N^alpha / n^2, else N^(alpha/2): at most twice N^alpha pairs."""
    draw, thinning = np.random.default_rng(0), Thinning(LONGEST, ALPHA)
    for length in (60, 100, 180, 256):
        pairs = np.mean([len(thinning.kept(length, draw)) ** 2 for _ in range(2_000)])
        whole = min(1.0, thinning.budget / length**2)
        expected = min(length**2, whole * length**2 + (1 - whole) * int(thinning.budget**0.5) ** 2)
        assert pairs == pytest.approx(expected, rel=0.06)
        assert pairs < 2.1 * thinning.budget


def test_short_histories_and_an_alpha_of_two_are_never_thinned() -> None:
    draw = np.random.default_rng(0)
    short = int(Thinning(LONGEST, ALPHA).budget ** 0.5)
    for length, thinning in ((short, Thinning(LONGEST, ALPHA)), (LONGEST, Thinning(LONGEST, 2.0))):
        for _ in range(50):
            np.testing.assert_array_equal(thinning.kept(length, draw), np.arange(length))


def test_what_is_kept_is_in_order_and_newer_for_the_most_part() -> None:
    draw, thinning = np.random.default_rng(0), Thinning(LONGEST, 1.0)
    times = np.zeros(LONGEST)
    for _ in range(400):
        kept = thinning.kept(LONGEST, draw)
        assert np.all(np.diff(kept) > 0)
        times[kept] += 1
    assert times[LONGEST // 2 :].sum() > 2 * times[: LONGEST // 2].sum()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Thinning(LONGEST, 2.5)
