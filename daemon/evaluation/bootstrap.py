"""Bootstrap over users: how sure a mean is, and a difference of two means on the same users.

Owns the resampling. Promises that equal inputs give equal numbers, and that two systems compared
are compared on the same draws of users, so that what all systems find hard cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..rows import Mean

DRAWS = 2_000
SEED = 0

# Resampled means are taken in blocks of draws: [2,000, 2,000] positions need not exist at once.
_BLOCK = 200


@dataclass(frozen=True)
class Estimate(Mean):
    """A mean over users, whose standard error is by bootstrap.

    Attributes:
        low, high: bounds of its 95% interval.
    """

    low: float
    high: float


def estimate(values: NDArray[np.floating], weights: NDArray[np.floating] | None = None) -> Estimate:
    """The mean of one value per user.

    Args:
        values: [U] or [S, U] values of users; of several seeds S, a user's mean counts.
        weights: [U] of users in the mean; equal by default.
    """
    values = np.atleast_2d(np.asarray(values, np.float64)).mean(axis=0)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    draw = np.random.default_rng(SEED)
    means = []
    for _ in range(0, DRAWS, _BLOCK):
        users = draw.integers(len(values), size=(_BLOCK, len(values)))
        means.append((values * weights)[users].sum(axis=1) / weights[users].sum(axis=1))
    drawn = np.concatenate(means)
    low, high = np.quantile(drawn, (0.025, 0.975))
    mean = float(np.average(values, weights=weights))
    return Estimate(mean, float(drawn.std(ddof=1)), len(values), float(low), float(high))


def gain(
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    weights: NDArray[np.floating] | None = None,
) -> Estimate:
    """The mean difference of two systems on the same users, in the order of `estimate`."""
    ours, theirs = (
        np.atleast_2d(np.asarray(values, np.float64)).mean(axis=0) for values in (ours, theirs)
    )
    return estimate(ours - theirs, weights)
