"""Claims about metrics: the base rate has entropy 1, AUC equals pair counting, ties are half."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from model.ranker.metrics import grouped_auc, normalised_entropy


def test_the_base_rate_has_a_normalised_entropy_of_one() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0])
    assert normalised_entropy(np.full(4, 0.25), labels) == pytest.approx(1.0)
    assert normalised_entropy(np.array([0.9, 0.1, 0.1, 0.1]), labels) < 0.3
    assert np.isnan(normalised_entropy(np.full(4, 0.5), np.zeros(4)))


@pytest.mark.parametrize("weigh_by_rows", [True, False])
def test_grouped_auc_equals_counting_pairs(weigh_by_rows: bool) -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 8, 300)
    # Few distinct scores, so that there are ties within and across labels.
    scores = random.integers(0, 6, 300).astype(np.float32)
    labels = (random.random(300) < 0.3).astype(np.float32)
    aucs, sizes = [], []
    for group in range(8):
        mine = groups == group
        pairs = itertools.product(scores[mine & (labels == 1)], scores[mine & (labels == 0)])
        wins = [float(a > b) + 0.5 * float(a == b) for a, b in pairs]
        if wins:
            aucs.append(np.mean(wins))
            sizes.append(mine.sum())
    expected = np.average(aucs, weights=sizes if weigh_by_rows else None)
    assert grouped_auc(scores, labels, groups, weigh_by_rows) == pytest.approx(expected)


def test_groups_with_one_label_do_not_count() -> None:
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 1.0, 1.0])
    assert grouped_auc(scores, labels, np.array([1, 1, 2, 2])) == 1.0
    assert np.isnan(grouped_auc(scores, np.ones(4), np.array([1, 1, 2, 2])))
    assert np.isnan(grouped_auc(scores[:0], labels[:0], np.zeros(0, int)))
