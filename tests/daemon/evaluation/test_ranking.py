"""Claims about the measures of ranking, and the regression beside it."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.evaluation.bootstrap import estimate
from daemon.evaluation.linear import LogisticRegression
from daemon.evaluation.ranking import judge
from model.ranker.calibration import sigmoid
from model.ranker.metrics import grouped_auc, normalised_entropy

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def rows() -> Rows:
    draw = np.random.default_rng(0)
    p = draw.uniform(0.02, 0.3, 5_000)
    return p, (draw.random(5_000) < p).astype(np.float32), draw.integers(0, 200, 5_000)


def test_means_over_users_are_the_measures_over_rows(rows: Rows) -> None:
    """So that a bootstrap over users is one of the figure itself."""
    judged = judge(*rows)
    entropy = estimate(judged.entropies, judged.rows)
    assert entropy.value == pytest.approx(normalised_entropy(rows[0], rows[1]))
    auc = estimate(judged.aucs, judged.auc_rows)
    assert auc.value == pytest.approx(grouped_auc(*rows))


def test_calibration_finds_the_decile_that_is_off(rows: Rows) -> None:
    p, labels, users = rows
    assert judge(p, labels, users).calibration[0] == pytest.approx(1.0, abs=0.1)
    highest = p > np.quantile(p, 0.9)
    overall, worst = judge(np.where(highest, 3 * p, p), labels, users).calibration
    assert overall > 1.2
    assert worst == pytest.approx(3.0, abs=0.4)


def test_regression_finds_planted_weights_through_missing_values() -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(20_000, 3))
    x[draw.random(x.shape) < 0.2] = np.nan
    logits = np.nan_to_num(2.0 * x[:, 0]) + np.isnan(x[:, 1]) - 2.0
    y = (draw.random(len(x)) < sigmoid(logits)).astype(np.float32)
    found = LogisticRegression.fit(x, y)
    assert normalised_entropy(sigmoid(found.logits(x)), y) == pytest.approx(
        normalised_entropy(sigmoid(logits), y), abs=0.01
    )


def test_a_feature_that_never_exists_changes_nothing() -> None:
    draw = np.random.default_rng(2)
    x = draw.normal(size=(2_000, 2))
    x[:, 1] = np.nan
    y = (draw.random(len(x)) < sigmoid(x[:, 0])).astype(np.float32)
    found = LogisticRegression.fit(x, y)
    assert np.isfinite(found.logits(x)).all()
