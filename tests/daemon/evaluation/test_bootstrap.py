"""Claims about intervals."""

from __future__ import annotations

import numpy as np

from daemon.evaluation.bootstrap import estimate, gain


def test_spread_is_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.2, 2_000)
    found = estimate(values)
    assert found.value == values.mean()
    assert found.n == 2_000
    np.testing.assert_allclose(found.spread, values.std() / np.sqrt(2_000), rtol=0.05)
    np.testing.assert_allclose(
        [found.low, found.high], found.value + np.array([-1.96, 1.96]) * found.spread, atol=1e-3
    )


def test_paired_gain_is_surer_than_the_two_means() -> None:
    """What is hard for both systems cancels out."""
    draw = np.random.default_rng(2)
    theirs = draw.normal(0.3, 0.2, 2_000)
    ours = theirs + draw.normal(0.01, 0.02, 2_000)
    found = gain(ours, theirs)
    assert found.low > 0
    assert found.spread < estimate(ours).spread / 5


def test_seeds_are_averaged_for_each_user_first() -> None:
    draw = np.random.default_rng(3)
    seeds = draw.uniform(size=(3, 50))
    assert estimate(seeds) == estimate(seeds.mean(axis=0))


def test_weighted_mean_weighs_users_in_every_draw() -> None:
    values, weights = np.array([0.0, 1.0] * 100), np.array([1.0, 3.0] * 100)
    found = estimate(values, weights)
    assert found.value == 0.75
    assert abs(found.spread - np.sqrt(0.75 * 0.25 / 200)) < 0.01


def test_equal_inputs_give_equal_numbers() -> None:
    values = np.random.default_rng(4).uniform(size=30)
    assert estimate(values) == estimate(values)
