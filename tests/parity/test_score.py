"""HitMatch sums are NumPy's, on every side and over every layout of shards."""

from typing import Any

import numpy as np
import pytest

from gpuindex.kernels.cpu import shards
from gpuindex.kernels.cpu.encodings import (
    BITMAP,
    BLOCK_SLOTS,
    DENSE,
    ENCODING_MASK,
    RAW,
    U8,
    U16,
)

# From a feature on one ad in a hundred to one on every ad.
DENSITIES = [0.01, 0.02, 0.05, 0.09, 0.2, 0.5, 1.0, 0.0]


def sums(
    twins: Any, parts: list[Any], tail: Any, features: Any, weights: Any, limit: int = 0
) -> Any:
    """[N] int64, what `score` makes of shards and a tail in their order.

    Args:
        parts: ads of each sealed shard.
        tail: ads of the tail.
        features, weights: the query.
        limit: below which the narrow way may be taken.
    """
    firsts = np.cumsum([0, *map(len, parts)]).tolist()
    table, _held = twins.table(
        [(first, part.shard()) for first, part in zip(firsts[:-1], parts, strict=True)]
    )
    return table_sums(twins, table, len(parts), firsts[-1], tail, features, weights, limit)


def table_sums(
    twins: Any,
    table: Any,
    rows: int,
    tail_first: int,
    tail: Any,
    features: Any,
    weights: Any,
    limit: int = 0,
) -> Any:
    """[N] int64, what `score` makes of a table of so many rows, and a tail."""
    slots = tail_first + len(tail)
    weight_of = twins.put(np.zeros(tail.matrix.shape[1], np.int32))
    scores = twins.put(np.full(slots, -77, np.int32))
    touched = twins.put(np.zeros(len(tail) + limit, np.int32))
    block_sums = twins.put(np.zeros(BLOCK_SLOTS, np.int32))
    count = twins.score(
        table,
        tail_first,
        len(tail),
        twins.put(tail.bounds),
        twins.put(tail.features),
        twins.put(tail.weights),
        twins.put(np.asarray(features, np.int32)),
        twins.put(np.asarray(weights, np.int32)),
        limit,
        weight_of,
        twins.put(np.zeros((max(1, rows), max(1, len(features))), np.int32)),
        scores,
        touched,
        block_sums,
    )
    assert not twins.get(weight_of).any()
    assert not twins.get(block_sums).any()
    if count < 0:
        return twins.get(scores).astype(np.int64)
    narrow = np.zeros(slots, np.int64)
    noted = twins.get(touched)[:count]
    assert len(set(noted.tolist())) == count
    narrow[noted] = twins.get(scores)[:count]
    return narrow


def expected(parts: list[Any], tail: Any, features: Any, weights: Any) -> Any:
    matrix = np.concatenate([*(part.matrix for part in parts), tail.matrix])
    return matrix[:, list(features)] @ np.asarray(weights, np.int64)


@pytest.mark.parametrize("largest", [63, 4095])
@pytest.mark.parametrize("sizes", [(300,), (100, 200), (), (1, 130, 1)])
def test_sums_are_those_of_a_table_of_weights(
    twins: Any, ads: Any, sizes: tuple[int, ...], largest: int
) -> None:
    parts = [ads.drawn(size, DENSITIES, seed) for seed, size in enumerate(sizes)]
    tail = ads.drawn(40, DENSITIES, 9)
    weights = np.random.default_rng(3).integers(-largest, largest + 1, len(DENSITIES))
    weights[weights == 0] = largest
    features = range(len(DENSITIES))
    found = sums(twins, parts, tail, features, weights)
    np.testing.assert_array_equal(found, expected(parts, tail, features, weights))


def test_a_query_of_nothing_scores_zero_everywhere(twins: Any, ads: Any) -> None:
    parts = [ads.drawn(70, DENSITIES), ads.drawn(20, DENSITIES)]
    assert not sums(twins, parts, ads.drawn(9, DENSITIES), [], []).any()


def test_features_that_a_shard_lacks_change_nothing(twins: Any, ads: Any) -> None:
    parts = [ads.drawn(90, [0.05, 0.0, 0.0, 0.6]), ads.drawn(90, [0.0, 0.06, 0.0, 0.0])]
    tail = ads.drawn(10, [0.0, 0.0, 0.5, 0.0])
    query = ([0, 1, 2, 3], [5, -7, 11, 13])
    np.testing.assert_array_equal(sums(twins, parts, tail, *query), expected(parts, tail, *query))


def test_a_light_query_sums_the_same(twins: Any, ads: Any) -> None:
    """Few postings, where a side may report the touched slots instead."""
    parts = [ads.drawn(400, [0.01, 0.02])]
    tail = ads.drawn(30, [0.1, 0.1])
    query = ([0, 1], [21, 63])
    np.testing.assert_array_equal(
        sums(twins, parts, tail, *query, limit=200), expected(parts, tail, *query)
    )


def test_a_light_query_sums_every_encoding_in_every_block(twins: Any, ads: Any) -> None:
    """Also where weights cancel out, which leaves a slot as if it was never touched."""
    parts = [ads.in_every_encoding(), ads.in_every_encoding(700, seed=1)]
    features = parts[0].matrix.shape[1]
    tail = ads.drawn(30, [0.3] * features)
    weights = np.random.default_rng(3).integers(-3, 4, features)
    weights[weights == 0] = 1
    np.testing.assert_array_equal(
        sums(twins, parts, tail, range(features), weights, limit=30_000),
        expected(parts, tail, range(features), weights),
    )


@pytest.mark.parametrize("limit", [0, 1_000])
def test_segments_of_every_category_and_block_are_summed(twins: Any, ads: Any, limit: int) -> None:
    """Lists of 1, 2, 3, 4, ... postings, on both sides of a block's edge."""
    lengths = [1, 2, 3, 4, 5, 8, 9, 16, 17, 300]
    matrix = np.zeros((BLOCK_SLOTS + 310, len(lengths)), np.int64)
    for feature, length in enumerate(lengths):
        matrix[BLOCK_SLOTS : BLOCK_SLOTS + length, feature] = 1 + feature
        matrix[BLOCK_SLOTS - min(3, length) : BLOCK_SLOTS, feature] = 200 + feature
    parts = [ads.of(matrix)]
    tail = ads.drawn(0, [0.0] * len(lengths))
    query = (range(len(lengths)), [(-1) ** each * (each + 1) for each in range(len(lengths))])
    found = sums(twins, parts, tail, *query, limit=limit)
    np.testing.assert_array_equal(found, expected(parts, tail, *query))


@pytest.mark.parametrize("largest", [63, 4095])
def test_lists_of_every_encoding_are_summed(twins: Any, ads: Any, largest: int) -> None:
    parts = [ads.in_every_encoding(), ads.in_every_encoding(700, seed=1)]
    codes = {code & ENCODING_MASK for part in parts for code in part.shard().postings.codes}
    assert codes == {RAW, U16, U8, BITMAP, DENSE}
    features = parts[0].matrix.shape[1]
    tail = ads.drawn(30, [0.3] * features)
    weights = np.random.default_rng(3).integers(1, largest + 1, features)
    weights[::2] *= -1
    np.testing.assert_array_equal(
        sums(twins, parts, tail, range(features), weights),
        expected(parts, tail, range(features), weights),
    )


def test_rows_that_are_runs_of_blocks_sum_to_the_whole(twins: Any, ads: Any) -> None:
    """A search may be divided: each part of the table has its own slots."""
    matrix = np.zeros((2 * BLOCK_SLOTS + 50, 4), np.int64)
    edges = np.array([0, 1]) * BLOCK_SLOTS
    for edge in edges:
        matrix[edge : edge + 2, 0] = 7
        matrix[edge + 20 : edge + 6_000 : 9, 1] = 255
        matrix[edge + 3 : edge + 60_000 : 500, 2] = 9
    matrix[-40:, :3] = 3
    matrix[edges + 5, 3] = 200
    known = ads.of(matrix)
    table, _held = twins.table([(0, known.shard())])
    rows = twins.get(table).repeat(2, axis=0)
    rows[0, shards.ADS] = BLOCK_SLOTS
    rows[1, shards.ADS] -= BLOCK_SLOTS
    rows[1, shards.FIRST_SLOT] = BLOCK_SLOTS
    rows[1, shards.FIRST_BLOCK] = 1
    query = (range(4), [3, -5, 11, 2])
    tail = ads.drawn(0, [0.0] * 4)
    found = table_sums(twins, twins.put(rows), 2, len(known), tail, *query)
    np.testing.assert_array_equal(found, expected([known], tail, *query))
