"""Claims about the baselines."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.datasets.complete_journey.retrieval import Split, Truth
from daemon.evaluation.baselines import DAY_MS, Past, ease

USERS, ITEMS, LINES = 12, 9, 200
NOW_MS = 100 * DAY_MS
NOTHING = Truth(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))


@pytest.fixture
def split() -> Split:
    draw = np.random.default_rng(0)
    return Split(
        items=np.arange(ITEMS),
        users=np.arange(USERS),
        user=draw.integers(USERS, size=LINES),
        item=draw.integers(ITEMS, size=LINES),
        time_ms=np.sort(draw.integers(2 * NOW_MS, size=LINES)),
        row=np.arange(LINES),
        validate=NOTHING,
        test=NOTHING,
    )


def test_ease_is_the_ridge_regression_without_self_weights(split: Split) -> None:
    """Against the formula of the paper, by the inverse that is items x items."""
    matrix = (Past(split, NOW_MS).counts() > 0).astype(np.float32)
    inverse = np.linalg.inv(matrix.T @ matrix + 3 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices(ITEMS)] = 0
    np.testing.assert_allclose(ease(matrix, 3.0), matrix @ weights, atol=1e-4)


def test_only_purchases_before_the_moment_count(split: Split) -> None:
    past = Past(split, NOW_MS)
    known = split.time_ms < NOW_MS
    assert past.counts().sum() == known.sum() < LINES
    assert past.popularity().sum() == known.sum()


def test_counts_decay_with_age(split: Split) -> None:
    past = Past(split, NOW_MS)
    assert past.counts(10.0).sum() < past.counts(50.0).sum() < past.counts().sum()
