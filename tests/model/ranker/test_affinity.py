"""Claims about affinity: the regression's own formula, nothing ahead, distinct items alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.ranker.affinity import Affinity, AffinityHistory, fit_affinity
from model.ranker.config import AffinityConfig
from model.ranker.matches import DAY_MS, Events, Prefixes

CONFIG = AffinityConfig(ridge=3.0, min_users=1)
USERS, ITEMS = 30, 12


@pytest.fixture
def events() -> Events:
    random = np.random.default_rng(0)
    owners = np.sort(random.integers(0, USERS, 400))
    time_ms = random.integers(0, 100 * DAY_MS, 400)
    time_ms = time_ms[np.lexsort((time_ms, owners))]
    ids = random.integers(0, ITEMS + 1, (400, 1))
    return Events(owners, time_ms, ids, np.ones(400, np.float32))


def scores(events: Events, history: np.ndarray) -> np.ndarray:
    """By the paper's formula, through the inverse that is items x items."""
    matrix = np.zeros((USERS, ITEMS))
    there = events.ids[:, 0] > 0
    matrix[events.owners[there], events.ids[there, 0] - 1] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + CONFIG.ridge * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices(ITEMS)] = 0
    seen = np.isin(np.arange(1, ITEMS + 1), history)
    return seen @ weights


def fit(events: Events, config: AffinityConfig = CONFIG) -> Affinity:
    return fit_affinity(events.owners, events.ids[:, 0], np.arange(1, ITEMS + 1), config)


def test_scores_are_those_of_ridge_regression_without_self_weights(events: Events) -> None:
    history = np.array([3, 3, 0, 9, 5, 3])
    found = fit(events).score(history, np.arange(1, ITEMS + 1))
    np.testing.assert_allclose(found, scores(events, history), atol=2e-3)


@pytest.mark.parametrize("users", [5, USERS])
def test_the_smaller_side_is_inverted_and_either_gives_the_same(
    events: Events, users: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set of a hundred thousand users has no room for a matrix of users by users."""
    sides = []
    factor = torch.linalg.cholesky

    def spied(matrix: torch.Tensor) -> torch.Tensor:
        sides.append(len(matrix))
        factored: torch.Tensor = factor(matrix)
        return factored

    monkeypatch.setattr(torch.linalg, "cholesky", spied)
    few = events.owners < users
    some = Events(*(column[few] for column in vars(events).values()))
    history = np.array([3, 9, 5])
    found = fit(some).score(history, np.arange(1, ITEMS + 1))
    assert sides == [min(users, ITEMS)]
    # What nobody has met has no score here, and 0 in the formula.
    np.testing.assert_allclose(np.nan_to_num(found), scores(some, history), atol=2e-3)


def test_an_unknown_item_has_no_score_and_an_empty_history_scores_zero(events: Events) -> None:
    table = fit(events)
    assert np.isnan(table.score(np.array([3]), np.array([0, 99]))).all()
    np.testing.assert_array_equal(table.score(np.zeros(0, np.int64), np.array([3])), [0])


def test_items_with_too_few_users_take_no_part(events: Events) -> None:
    config = AffinityConfig(ridge=3.0, min_users=USERS + 1)
    assert np.isnan(fit(events, config).score(np.array([3]), np.array([5]))).all()


def test_a_table_survives_its_tensors(events: Events) -> None:
    table = fit(events)
    restored = Affinity.from_tensors(table.tensors())
    asked = np.arange(ITEMS + 3)
    np.testing.assert_array_equal(restored.score(asked[2:6], asked), table.score(asked[2:6], asked))


def test_a_row_reads_a_fit_from_before_it_and_its_own_prefix(events: Events) -> None:
    """What is bought later must change neither."""
    config = AffinityConfig(ridge=3.0, min_users=1, refit_days=20.0)
    targets = np.arange(1, ITEMS + 1)
    now_ms = np.array([50, 65, 75]) * DAY_MS
    owners = np.full(3, events.owners[0])
    last = np.array([np.sum((events.owners == owners[0]) & (events.time_ms < t)) for t in now_ms])
    rows = Prefixes(owners, np.zeros(3, np.int64), last, now_ms)
    items = np.array([1, 2, 3])
    found = AffinityHistory(events, 0, targets, config).as_of(rows, items)[:, 0]
    for n, fit_ms in enumerate(np.array([50, 50, 70]) * DAY_MS):
        known = events.time_ms < fit_ms
        table = fit_affinity(events.owners[known], events.ids[known, 0], targets, config)
        expected = table.score(events.ids[: last[n], 0], items[n : n + 1])
        np.testing.assert_array_equal(found[n], expected[0])
