"""Claims about what a ranking is worth."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.datasets.complete_journey.retrieval import Truth
from daemon.evaluation.measures import Measures, by_scores

ITEMS = 200


@pytest.fixture
def measures() -> Measures:
    """User 0 buys items 3 (met before) and 150, user 1 nothing, user 2 item 5 (met before)."""
    truth = Truth(np.array([0, 0, 2]), np.array([3, 150, 5]), np.array([False, True, False]))
    seen = np.zeros((3, ITEMS), bool)
    seen[0, :50] = True
    seen[2, 5] = True
    return Measures(truth, seen)


def by_position(user: int) -> np.ndarray:
    """Every user gets the items in order of position."""
    return -np.arange(ITEMS, dtype=np.float32)


def test_recall_is_the_share_of_a_users_own_items(measures: Measures) -> None:
    found = measures.of(by_scores(by_position))
    np.testing.assert_allclose(found["recall@10/all"], [0.5, 1])
    np.testing.assert_allclose(found["recall@100/all"], [0.5, 1])
    np.testing.assert_allclose(found["hr@10/all"], [1, 1])


def test_novel_ranks_only_what_the_user_never_met(measures: Measures) -> None:
    """With the 50 known items gone, item 150 is the 101st; and user 2 has nothing novel."""
    found = measures.of(by_scores(by_position))
    np.testing.assert_allclose(found["recall@100/novel"], [0])

    def one_up(user: int) -> np.ndarray:
        scores = by_position(user)
        scores[60] = -np.inf
        return scores

    np.testing.assert_allclose(measures.of(by_scores(one_up))["recall@100/novel"], [1])


def test_ndcg_is_one_for_the_best_order_and_falls_with_the_place(measures: Measures) -> None:
    def best(user: int) -> np.ndarray:
        scores = by_position(user)
        scores[[3, 150]], scores[5] = 2, 1
        return scores

    np.testing.assert_allclose(measures.of(by_scores(best))["ndcg@10/all"], [1, 1 / np.log2(4)])


def test_equal_scores_are_ordered_by_position(measures: Measures) -> None:
    flat = measures.of(by_scores(lambda user: np.zeros(ITEMS, np.float32)))
    for axis, values in measures.of(by_scores(by_position)).items():
        np.testing.assert_array_equal(flat[axis], values)
