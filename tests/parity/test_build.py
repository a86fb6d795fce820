"""Building inverts exactly, and into the same bytes on every side."""

from typing import Any

import numpy as np
import pytest

from gpuindex.kernels.cpu.encodings import BLOCK_SLOTS
from gpuindex.postings import Postings


def built(twins: Any, known: Any, keep: Any) -> Postings:
    arrays = twins.build(
        len(known),
        twins.put(known.bounds),
        twins.put(known.features),
        twins.put(known.weights),
        twins.put(keep),
        known.matrix.shape[1],
    )
    return Postings(*(twins.get(array) for array in arrays))


def assert_inverted(made: Postings, known: Any, keep: Any) -> None:
    """Lists read back are the table's columns, and the bytes are the CPU's."""
    matrix = known.matrix * keep[:, None]
    assert made.features.tolist() == np.flatnonzero(matrix.any(axis=0)).tolist()
    for listed, feature in enumerate(made.features):
        slots, weights = made.read(listed, len(known))
        assert slots.tolist() == np.flatnonzero(matrix[:, feature]).tolist()
        assert weights.tolist() == matrix[slots, feature].tolist()
    same = Postings.built(
        len(known), known.bounds, known.features, known.weights, keep, matrix.shape[1]
    )
    for name in ("features", "starts", "codes", "data"):
        own, other = getattr(made, name), getattr(same, name)
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("count", [0, 1, 257, 2_000])
def test_lists_are_the_ads_features_turned_round(twins: Any, ads: Any, count: int) -> None:
    known = ads.in_every_encoding(count)
    keep = (np.random.default_rng(1).random(count) < 0.8).astype(np.uint8)
    assert_inverted(built(twins, known, keep), known, keep)


def test_lists_go_on_in_the_next_block(twins: Any, ads: Any) -> None:
    """The last slots of one block, the first of the next, and some far within it."""
    matrix = np.zeros((BLOCK_SLOTS + 200, 3), np.int64)
    matrix[[0, BLOCK_SLOTS - 1, BLOCK_SLOTS, BLOCK_SLOTS + 199], 0] = [1, 2, 3, 255]
    matrix[BLOCK_SLOTS - 90 : BLOCK_SLOTS + 90 : 3, 1] = 9
    matrix[300::400, 2] = 255
    known = ads.of(matrix)
    keep = np.ones(len(known), np.uint8)
    assert_inverted(built(twins, known, keep), known, keep)
