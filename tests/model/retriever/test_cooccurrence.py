"""Claims about co-occurrence: the closed form, its factors and its listed pairs agree."""

from __future__ import annotations

import numpy as np
import pytest

from model.retriever.cooccurrence import Cooccurrence, CooccurrenceSettings, fit

ITEMS, USERS, RIDGE = 9, 60, 5.0
SETTINGS = CooccurrenceSettings(
    rank=ITEMS, ridge=RIDGE, min_users=1, min_together=1, pairs_per_item=ITEMS
)


def incidence(seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    taste = draw.random((USERS, 2)) @ draw.random((2, ITEMS))
    return (draw.random((USERS, ITEMS)) < taste * 0.6).astype(float)


def fitted(matrix: np.ndarray, settings: CooccurrenceSettings = SETTINGS) -> Cooccurrence:
    users, items = np.nonzero(matrix)
    return fit(users, items + 100, np.arange(100, 100 + ITEMS), settings)


def reference(matrix: np.ndarray) -> np.ndarray:
    """EASE from its definition: minus the inverse over its diagonal, zero on the diagonal."""
    inverse = np.linalg.inv(matrix.T @ matrix + RIDGE * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_full_rank_factors_are_the_regression() -> None:
    matrix = incidence()
    found = fitted(matrix)
    assert found.ids.tolist() == list(range(100, 100 + ITEMS))
    np.testing.assert_allclose(found.source @ found.target.T, reference(matrix), atol=1e-4)


@pytest.mark.parametrize("rank", [2, 5])
def test_listed_pairs_are_the_strongest_of_the_regression(rank: int) -> None:
    matrix = incidence()
    settings = CooccurrenceSettings(
        rank=rank, ridge=RIDGE, min_users=1, min_together=3, pairs_per_item=4
    )
    found, wanted = fitted(matrix, settings), reference(matrix)
    together = matrix.T @ matrix
    for source in range(ITEMS):
        bounds = slice(found.pair_offsets[source], found.pair_offsets[source + 1])
        led = found.pair_targets[bounds]
        assert source not in led
        assert len(led) <= 4
        assert (together[source, led] >= 3).all()
        assert (wanted[source, led] > 0).all()
        np.testing.assert_allclose(found.pair_weights[bounds], wanted[source, led], atol=1e-4)
        strongest = np.sort(wanted[source])[-4:]
        assert (wanted[source, led] >= strongest[0] - 1e-4).all()


def test_pairs_lead_to_advertised_items_only() -> None:
    users, items = np.nonzero(incidence())
    found = fit(users, items + 100, np.array([101, 104]), SETTINGS)
    assert set(found.ids[found.pair_targets].tolist()) <= {101, 104}
    assert len(found.pair_targets)


def test_rare_and_missing_items_take_no_part() -> None:
    users = np.array([0, 0, 1, 1, 2, 2, 3])
    items = np.array([5, 6, 5, 6, 5, 0, 7])
    found = fit(users, items, np.arange(10), CooccurrenceSettings(rank=3, min_users=2))
    assert found.ids.tolist() == [5, 6]
    assert found.positions(np.array([5, 7, 0])).tolist() == [0, -1, -1]


@pytest.mark.parametrize("events", [0, 1])
def test_too_little_data_gives_no_pairs(events: int) -> None:
    users = np.zeros(events, np.int64)
    found = fit(users, users + 1, np.array([1]), SETTINGS)
    assert found.source.shape == (events, ITEMS)
    assert found.pair_offsets.tolist() == [0] * (events + 1)


def test_at_most_so_many_items_and_users() -> None:
    settings = CooccurrenceSettings(rank=3, min_users=1, max_items=4, max_users=10)
    matrix = incidence()
    found = fitted(matrix, settings)
    popular = np.argsort(-matrix.sum(axis=0), kind="stable")[:4]
    assert found.ids.tolist() == sorted((popular + 100).tolist())
