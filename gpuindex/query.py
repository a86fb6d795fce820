"""Queries, and how one becomes integers.

Every score is an int32 in one unit per query, so that sums do not depend on
their order, and so not on the layout of shards. HitMatch weights become
integers of `query_bits` bits; a HitMatch sum, in units of the smallest weight
step over 255, is multiplied by one integer to reach the unit of the score, in
which the embedding product and the bias are rounded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .arrays import Float32, Float64, Int16, Int32, Int64
from .batch import BIAS_LIMIT
from .errors import InvalidQuery
from .targeting import Rule

# The int32 range shared out: HitMatch sums, embedding products, biases. The
# three together stay below 2^31.
HITMATCH_LIMIT = 1 << 30
PRODUCT_LIMIT = 1 << 29
BIAS_RANGE = 1 << 28

VECTOR_LIMIT = 32_767

# int8 reaches -128.
EMBEDDING_LIMIT = 128
WEIGHT_LIMIT = 255

MAX_QUERY_BITS = 12

_NOBODY: Int64 = np.zeros(0, np.int64)
_NO_WEIGHTS: Int32 = np.zeros(0, np.int32)
_NO_VECTOR: Int16 = np.zeros(0, np.int16)
_NO_PRODUCT: Float64 = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Query:
    """What to look for; Q features, D embedding width.

    Attributes:
        feature_ids: [Q] int32; a repeated one counts as the sum of its weights.
        weights: [Q] float32, signed.
        vector: [D] float32, or None for no embedding product.
        embedding_scale: what 1 in an ad's int8 embedding stands for.
        bias_weight: factor of the ads' biases.
        mode: "full" scores every eligible ad by HitMatch + product + bias;
            "sparse" by HitMatch alone, and wants only ads with a positive sum.
        now_ms: the time at which flights are judged.
        seed: of the pacing draw, any integer.
        audience: values by field of profile and context, for ads' targeting.
        filters: rules that the ads' own features must satisfy: one of `allow`
            present, none of `deny`.
        query_bits: size of a quantised weight, 1..12, sign apart.
        excluded: [E] int64, ads that are not wanted.
        group_limit: most ads of one group; None for no limit.
    """

    feature_ids: Int32
    weights: Float32
    vector: Float32 | None
    embedding_scale: float
    now_ms: int
    seed: int
    bias_weight: float = 1.0
    mode: Literal["full", "sparse"] = "full"
    audience: Mapping[str, frozenset[str]] = field(default_factory=dict)
    filters: tuple[Rule, ...] = ()
    query_bits: int = 6
    excluded: Int64 = field(default_factory=lambda: _NOBODY)
    group_limit: int | None = None

    @property
    def signed_seed(self) -> int:
        """The low 64 bits of the seed, as int64."""
        return (self.seed + (1 << 63)) % (1 << 64) - (1 << 63)


@dataclass(frozen=True, eq=False)
class IntegerQuery:
    """A query in integers.

    Attributes:
        features: [Q'] int32, distinct, ascending.
        weights: [Q'] int32, none zero.
        multiplier: HitMatch sum to score.
        vector: [D] int16 in score units per embedding step; [0] for none.
        bias_factor: bias to score, a float32 value; 0 for none.
        unit: score to real score.
    """

    features: Int32
    weights: Int32
    multiplier: int
    vector: Int16
    bias_factor: float
    unit: float


def to_integers(query: Query, feature_count: int, embedding_width: int) -> IntegerQuery:
    """Quantise a query; features outside the dictionary are left out.

    Raises:
        InvalidQuery: shapes that do not fit, or values that are not finite.
    """
    _check(query, embedding_width)
    features, real = _distinct(query, feature_count)
    product = _NO_PRODUCT
    # The smallest unit at which product and bias still fit.
    finest = 0.0
    bias_weight = query.bias_weight if query.mode == "full" else 0.0
    if query.mode == "full":
        finest = BIAS_LIMIT * abs(bias_weight) / BIAS_RANGE
        if query.vector is not None:
            product = query.vector.astype(np.float64) * query.embedding_scale
            sizes = np.abs(product)
            finest = max(
                finest,
                float(sizes.max(initial=0.0)) / VECTOR_LIMIT,
                # Half a step is lost or won by rounding, per dimension.
                EMBEDDING_LIMIT
                * float(sizes.sum())
                / (PRODUCT_LIMIT - EMBEDDING_LIMIT * len(product)),
            )
    # One step of a quantised weight, such that the sum of all fits.
    sizes = np.abs(real)
    step = max(
        float(sizes.max(initial=0.0)) / ((1 << query.query_bits) - 1),
        WEIGHT_LIMIT * float(sizes.sum()) / (HITMATCH_LIMIT - WEIGHT_LIMIT * len(real)),
        WEIGHT_LIMIT * finest,
    )
    if step == 0.0:
        return IntegerQuery(features[:0], _NO_WEIGHTS, 1, _NO_VECTOR, 0.0, 1.0)
    weights = np.rint(real / step).astype(np.int32)
    if not weights.all():
        features, weights = features[weights != 0], weights[weights != 0]
    multiplier = 1
    if finest > 0.0:
        reach = max(1, WEIGHT_LIMIT * int(np.abs(weights).sum()))
        multiplier = max(1, min(HITMATCH_LIMIT // reach, int(step / (WEIGHT_LIMIT * finest))))
    unit = step / (WEIGHT_LIMIT * multiplier)
    return IntegerQuery(
        features=features,
        weights=weights,
        multiplier=multiplier,
        vector=np.rint(product / unit).astype(np.int16),
        bias_factor=float(np.float32(bias_weight / unit)),
        unit=unit,
    )


def _check(query: Query, embedding_width: int) -> None:
    if query.feature_ids.shape != query.weights.shape or query.weights.ndim != 1:
        raise InvalidQuery(f"{query.feature_ids.shape} features and {query.weights.shape} weights")
    if query.vector is not None and query.vector.shape != (embedding_width,):
        raise InvalidQuery(f"vector is {query.vector.shape}; the index has {embedding_width}")
    if not 1 <= query.query_bits <= MAX_QUERY_BITS:
        raise InvalidQuery(f"query_bits is {query.query_bits}; allowed are 1..{MAX_QUERY_BITS}")
    if query.mode not in ("full", "sparse"):
        raise InvalidQuery(f'mode is "{query.mode}"; allowed are "full" and "sparse"')
    if query.group_limit is not None and query.group_limit < 1:
        raise InvalidQuery(f"group_limit is {query.group_limit}; it must be at least 1")
    # A sum of float32 values in float64 is finite if and only if all of them are.
    finite = math.isfinite(query.weights.sum(dtype=np.float64)) and math.isfinite(query.bias_weight)
    if query.vector is not None:
        finite = finite and math.isfinite(query.vector.sum(dtype=np.float64))
        finite = finite and math.isfinite(query.embedding_scale)
    if not finite:
        raise InvalidQuery("weights, vector, scale and bias weight must be finite")


def _distinct(query: Query, feature_count: int) -> tuple[Int32, Float64]:
    """Known features, ascending, each once, with float64 weights."""
    order = query.feature_ids.argsort(kind="stable")
    features = query.feature_ids[order].astype(np.int32, copy=False)
    real = query.weights[order].astype(np.float64)
    if len(features) and (features[0] < 0 or features[-1] >= feature_count):
        known = slice(*features.searchsorted((0, feature_count)))
        features, real = features[known], real[known]
    repeated = features[1:] == features[:-1]
    if repeated.any():
        first = np.append(True, ~repeated)
        features = features[first]
        real = np.bincount(first.cumsum() - 1, real).astype(np.float64, copy=False)
    return features, real
