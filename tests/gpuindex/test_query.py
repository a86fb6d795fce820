"""Queries become integers that never overflow and stay near the real score."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuindex import Query
from gpuindex.batch import BIAS_LIMIT
from gpuindex.query import EMBEDDING_LIMIT, VECTOR_LIMIT, WEIGHT_LIMIT, to_integers

HIGHEST = 2**31 - 1

magnitudes = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3, 1e30])


def drawn(
    seed: int, features: int, width: int, weight: float, vector: float, bias: float, bits: int
) -> Query:
    random = np.random.default_rng(seed)
    return Query(
        feature_ids=np.arange(features, dtype=np.int32),
        weights=(weight * random.normal(size=features)).astype(np.float32),
        vector=(vector * random.normal(size=width)).astype(np.float32),
        embedding_scale=0.01,
        now_ms=0,
        seed=0,
        bias_weight=bias,
        query_bits=bits,
    )


shapes = {
    "seed": st.integers(0, 1_000),
    "features": st.sampled_from([0, 1, 200, 4_096, 30_000]),
    "width": st.sampled_from([0, 1, 128, 512]),
    "weight": magnitudes,
    "vector": magnitudes,
    "bias": magnitudes,
    "bits": st.integers(1, 12),
}


@given(**shapes)
def test_no_ad_can_overflow_the_score(
    seed: int, features: int, width: int, weight: float, vector: float, bias: float, bits: int
) -> None:
    """The ad with every feature and the worst embedding and bias still fits."""
    query = drawn(seed, features, width, weight, vector, bias, bits)
    integers = to_integers(query, features, width)
    hit_match = WEIGHT_LIMIT * int(np.abs(integers.weights.astype(np.int64)).sum())
    product = EMBEDDING_LIMIT * int(np.abs(integers.vector.astype(np.int64)).sum())
    bias_part = int(np.rint(np.float32(BIAS_LIMIT) * abs(integers.bias_factor)))
    assert integers.multiplier >= 1
    assert hit_match * integers.multiplier + product + bias_part <= HIGHEST
    assert np.abs(integers.weights).max(initial=0) < 2**bits
    assert np.isfinite(integers.unit)
    assert integers.unit > 0


@given(**shapes)
def test_the_integer_score_is_near_the_real_one(
    seed: int, features: int, width: int, weight: float, vector: float, bias: float, bits: int
) -> None:
    query = drawn(seed, features, width, weight, vector, bias, bits)
    integers = to_integers(query, features, width)
    random = np.random.default_rng(seed)
    weights = random.integers(1, 256, features)
    embedding = random.integers(-128, 128, width)
    ad_bias = np.float32(random.uniform(-BIAS_LIMIT, BIAS_LIMIT))
    real = (
        query.weights.astype(np.float64) @ (weights / 255)
        + 0.01 * query.vector.astype(np.float64) @ embedding
        + bias * float(ad_bias)
    )
    score = (
        integers.multiplier * int(integers.weights @ weights[integers.features])
        # Without anything to score there is no vector either.
        + int(integers.vector.astype(np.int64) @ embedding[: len(integers.vector)])
        + int(np.rint(ad_bias * np.float32(integers.bias_factor)))
    )
    # Half a step for each weight, half a unit for each dimension and the bias.
    step = integers.unit * integers.multiplier * 255
    allowed = 0.5 * step * features + integers.unit * (64 * width + 0.5)
    float_error = 1e-6 * (1e-30 + abs(bias) * BIAS_LIMIT + abs(real))
    assert abs(score * integers.unit - real) <= 1.0001 * allowed + float_error


def test_a_weight_takes_all_its_bits_unless_the_vector_is_far_greater() -> None:
    query = drawn(0, 200, 64, 1.0, 1.0, 1.0, 6)
    assert np.abs(to_integers(query, 200, 64).weights).max() == 63
    # One step of the embedding outweighs any feature: their detail is lost in it.
    query = drawn(0, 200, 64, 1e-3, 1e3, 0.0, 6)
    integers = to_integers(query, 200, 64)
    assert np.abs(integers.weights).max(initial=0) < 63
    assert np.abs(integers.vector).max() > VECTOR_LIMIT // 2


def test_a_repeated_feature_counts_as_the_sum_and_an_unknown_one_not_at_all() -> None:
    query = Query(
        feature_ids=np.array([5, 2, 5, -1, 9, 3, 3], np.int32),
        weights=np.array([1.0, 0.5, 1.0, 9.0, 9.0, 1.0, -1.0], np.float32),
        vector=None,
        embedding_scale=1.0,
        now_ms=0,
        seed=0,
        mode="sparse",
    )
    integers = to_integers(query, 9, 4)
    assert integers.features.tolist() == [2, 5]
    assert integers.weights.tolist() == [16, 63]
