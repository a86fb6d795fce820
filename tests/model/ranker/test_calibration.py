"""Claims about calibration: planted parameters return, orders stay, degenerate labels are safe."""

from __future__ import annotations

import numpy as np
import pytest

from model.ranker.calibration import Platt, sigmoid


def test_fit_recovers_planted_parameters_per_task() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(200_000, 2))
    truth = Platt(np.array([0.5, 2.0]), np.array([-1.0, 0.3]))
    labels = (random.random(logits.shape) < truth.apply(logits)).astype(np.float32)
    fitted = Platt.fit(logits, labels)
    np.testing.assert_allclose(fitted.slope, truth.slope, rtol=0.03)
    np.testing.assert_allclose(fitted.offset, truth.offset, atol=0.03)
    np.testing.assert_allclose(fitted.apply(logits).mean(0), labels.mean(0), rtol=1e-3)


def test_calibration_never_turns_an_order_round() -> None:
    """Labels against the logits would want a negative slope."""
    logits = np.linspace(-3, 3, 100)[:, None]
    fitted = Platt.fit(logits, (logits < 0).astype(np.float32))
    assert (np.diff(fitted.apply(logits)[:, 0]) > 0).all()


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_sided_labels_leave_the_logits_alone(label: float) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 1))
    fitted = Platt.fit(logits, np.full((50, 1), label))
    assert fitted.slope.tolist() == [1.0]
    assert fitted.offset.tolist() == [0.0]


def test_separable_labels_give_finite_parameters() -> None:
    logits = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    fitted = Platt.fit(logits, (logits > 0).astype(np.float32))
    assert np.isfinite([fitted.slope, fitted.offset]).all()


def test_sigmoid_does_not_overflow_and_is_never_zero() -> None:
    with np.errstate(all="raise"):
        rare, half, certain = sigmoid(np.array([-1e4, 0.0, 1e4])).astype(np.float32)
    assert 0.0 < rare < 1e-30
    assert (half, certain) == (0.5, 1.0)
