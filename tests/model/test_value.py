"""Claims about the value model: the stated product, its order, and finite numbers throughout."""

from __future__ import annotations

import numpy as np
import pytest

from model.value import ValueModel

BIDS = np.array([1.0, 2.0, 0.5], np.float32)
PROBABILITIES = np.array([[0.1, 0.2], [0.1, 0.2], [0.9, 0.01]], np.float32)


def test_value_is_the_product_of_powers() -> None:
    model = ValueModel(bid_power=2.0, engage_power=1.0, consume_power=0.5)
    expected = BIDS**2 * PROBABILITIES[:, 0] * np.sqrt(PROBABILITIES[:, 1])
    np.testing.assert_allclose(model.value(BIDS, PROBABILITIES), expected, rtol=1e-6)


def test_a_power_of_zero_leaves_the_factor_out() -> None:
    nobody = np.array([[0.5, 0.0]] * 3, np.float32)
    np.testing.assert_allclose(ValueModel(0.0, 1.0, 0.0).value(BIDS, nobody), 0.5)


def test_the_factors_multiply_to_the_value_and_are_1_where_left_out() -> None:
    model = ValueModel(bid_power=2.0, engage_power=0.5, consume_power=0.0)
    factors = model.factors(BIDS, PROBABILITIES)
    np.testing.assert_allclose(factors.prod(axis=1), model.value(BIDS, PROBABILITIES), rtol=1e-6)
    expected = np.column_stack((BIDS**2, np.sqrt(PROBABILITIES[:, 0]), np.ones(3)))
    np.testing.assert_allclose(factors, expected, rtol=1e-6)


def test_twice_the_bid_is_twice_the_value_and_log_two_of_bias() -> None:
    model = ValueModel()
    values = model.value(BIDS, PROBABILITIES)
    assert values[1] == pytest.approx(2 * values[0])
    bias = model.retrieval_bias(BIDS)
    assert bias[1] - bias[0] == pytest.approx(np.log(2.0))


def test_bias_is_the_bid_s_share_of_the_log_value() -> None:
    model = ValueModel(bid_power=1.5, engage_power=0.7, consume_power=0.2)
    value = model.value(BIDS, PROBABILITIES).astype(np.float64)
    rest = model.value(np.ones(3, np.float32), PROBABILITIES).astype(np.float64)
    np.testing.assert_allclose(model.retrieval_bias(BIDS), np.log(value / rest), atol=1e-5)


def test_no_bid_and_no_probability_gives_no_infinity() -> None:
    model = ValueModel(bid_power=3.0, engage_power=2.0, consume_power=2.0)
    bids = np.array([0.0, 3e38], np.float32)
    chances = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    assert np.isfinite(model.value(bids, chances)).all()
    assert np.isfinite(model.factors(bids, chances)).all()
    assert np.isfinite(model.retrieval_bias(bids)).all()
    assert model.value(bids, chances).dtype == np.float32


@pytest.mark.parametrize("power", [-1.0, float("inf"), float("nan")])
def test_powers_that_cannot_order_are_refused(power: float) -> None:
    with pytest.raises(ValueError, match="engage_power"):
        ValueModel(engage_power=power)
