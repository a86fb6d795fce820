"""Every encoding gives back what went in, and adds up to the same sums."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from gpuindex.columns import AdColumns
from gpuindex.kernels.cpu import encodings
from gpuindex.kernels.cpu.encodings import BLOCK_SLOTS, GAP_STEP, WEIGHTED
from gpuindex.kernels.cpu.score import score
from gpuindex.postings import Postings
from gpuindex.shard import Shard, shard_table

Slots = NDArray[np.int32]
Weights = NDArray[np.uint8]

PLAIN = (encodings.RAW, encodings.U16, encodings.U8, encodings.BITMAP)
CODES = (*PLAIN, *(code | WEIGHTED for code in PLAIN[:3]), encodings.DENSE | WEIGHTED)
NAMES = [
    encodings.NAMES[code & encodings.ENCODING_MASK] + ("/weighted" if code & WEIGHTED else "")
    for code in CODES
]

SIZES = (1, 31, 32, 255, 256, BLOCK_SLOTS - 1, BLOCK_SLOTS, BLOCK_SLOTS + 1, 2 * BLOCK_SLOTS + 33)
DENSITIES = (0.0, 0.0001, 0.003, 0.1, 0.5, 1.0)


def in_code(slots: Slots, weights: Weights, ads: int, code: int) -> Postings:
    """One list, of feature 0, in an encoding that it would perhaps not choose."""
    size = encodings.size_of(slots, code, ads)
    data = np.zeros(-(-size // encodings.WORD_BYTES), np.int32)
    encodings.encode(slots, weights, ads, code, data.ctypes.data)
    return Postings(
        np.zeros(1, np.int32), np.array([0, len(data)], np.int32), np.array([code], np.uint8), data
    )


def round_trip(slots: Slots, weights: Weights, ads: int, code: int) -> None:
    postings = in_code(slots, weights, ads, code)
    found, found_weights = postings.read(0, ads)
    np.testing.assert_array_equal(found, slots)
    np.testing.assert_array_equal(found_weights, weights)
    words = len(postings.data)
    assert len(slots) <= encodings.most_postings(words, code, ads)


def drawn(ads: int, density: float, code: int) -> tuple[Slots, Weights]:
    random = np.random.default_rng(ads)
    slots = np.flatnonzero(random.random(ads) < density).astype(np.int32)
    weights = random.integers(1, 256, len(slots)).astype(np.uint8)
    return slots, weights if code & WEIGHTED else np.full(len(slots), 255, np.uint8)


@pytest.mark.parametrize("code", CODES, ids=NAMES)
@pytest.mark.parametrize("ads", SIZES)
def test_a_list_comes_back_as_it_went_in(code: int, ads: int) -> None:
    for density in DENSITIES:
        round_trip(*drawn(ads, density, code), ads, code)


@pytest.mark.parametrize("code", CODES, ids=NAMES)
@given(
    gaps=st.lists(
        st.integers(1, 3)
        | st.integers(GAP_STEP - 2, GAP_STEP + 2)
        | st.integers(2 * GAP_STEP - 2, 2 * GAP_STEP + 2)
        | st.sampled_from([BLOCK_SLOTS - 1, BLOCK_SLOTS, BLOCK_SLOTS + 1]),
        max_size=12,
    ),
    behind=st.integers(0, 300),
)
def test_gaps_at_the_edges_of_steps_and_blocks_come_back(
    code: int, gaps: list[int], behind: int
) -> None:
    slots = np.cumsum(gaps).astype(np.int32) - 1
    ads = int(slots[-1]) + 1 + behind if gaps else 1 + behind
    weights = np.arange(1, len(slots) + 1).astype(np.uint8)
    if not code & WEIGHTED:
        weights[:] = 255
    round_trip(slots, weights, ads, code)


@pytest.mark.parametrize("code", CODES, ids=NAMES)
@pytest.mark.parametrize("ads", SIZES)
@pytest.mark.parametrize("weight", [-63, 4095])
def test_sums_equal_scipy_in_every_encoding(code: int, ads: int, weight: int) -> None:
    for density in DENSITIES:
        sums_equal_scipy(*drawn(ads, density, code), ads, code, weight)


# Three blocks, the last of 33 ads.
EDGE_ADS = 2 * BLOCK_SLOTS + 33
EDGES = {
    "nothing": [],
    "the first slot": [0],
    "the last slot": [EDGE_ADS - 1],
    "one slot of each block": [5, BLOCK_SLOTS + 5, 2 * BLOCK_SLOTS + 5],
    "both sides of each block's edge": [
        edge + side for edge in (BLOCK_SLOTS, 2 * BLOCK_SLOTS) for side in (-1, 0)
    ],
    "nothing in the block between": [BLOCK_SLOTS - 1, 2 * BLOCK_SLOTS],
    "the last, partial block alone": range(2 * BLOCK_SLOTS, EDGE_ADS),
    "a full block between empty ones": range(BLOCK_SLOTS, 2 * BLOCK_SLOTS),
    "every slot": range(EDGE_ADS),
    "both sides of a page's edge": [255, 256, 511, 512, BLOCK_SLOTS - 256, BLOCK_SLOTS - 255],
    "gaps about a step": np.cumsum([GAP_STEP + more for more in (-1, 0, 1, -1, 0, 1)]),
    "gaps about two steps": np.cumsum([2 * GAP_STEP + more for more in (-1, 0, 1, -1, 0, 1)]),
    "both sides of a word of bits": [30, 31, 32, 33, 63, 64],
}


@pytest.mark.parametrize("code", CODES, ids=NAMES)
@pytest.mark.parametrize("slots", EDGES.values(), ids=EDGES.keys())
def test_sums_equal_scipy_at_the_edges_of_every_encoding(code: int, slots: Any) -> None:
    slots = np.array(slots, np.int32)
    weights = (1 + np.arange(len(slots)) % 255).astype(np.uint8)
    if not code & WEIGHTED:
        weights[:] = 255
    for weight in (-1, 63, 4095):
        sums_equal_scipy(slots, weights, EDGE_ADS, code, weight)


def sums_equal_scipy(slots: Slots, weights: Weights, ads: int, code: int, weight: int) -> None:
    entries = (weights.astype(np.int64), (np.zeros(len(slots), np.int64), slots))
    expected = csr_matrix(entries, (1, ads)).T @ np.array([weight])
    shard = Shard("base", AdColumns.empty(ads, 0, 0), in_code(slots, weights, ads, code), True)
    assert summed(shard_table([(0, shard)]), ads, weight) == expected.tolist()


def summed(table: Any, ads: int, weight: int) -> list[int]:
    scores = np.full(ads, 7, np.int32)
    touched = score(
        table,
        ads,
        0,
        np.zeros(1, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.uint8),
        np.zeros(1, np.int32),
        np.array([weight], np.int32),
        0,
        np.zeros(1, np.int32),
        np.empty((len(table), 1), np.int32),
        scores,
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
    )
    assert touched == -1
    return scores.tolist()


@pytest.mark.parametrize(
    ("density", "weighted", "chosen"),
    [
        (0.00001, True, "RAW"),
        (0.001, True, "U16"),
        (0.05, True, "U8"),
        (0.5, True, "DENSE"),
        (0.001, False, "U16"),
        (0.05, False, "U8"),
        (0.5, False, "BITMAP"),
    ],
)
def test_the_cheapest_encoding_changes_with_density(
    density: float, weighted: bool, chosen: str
) -> None:
    ads = 400_000
    slots, weights = drawn(ads, density, WEIGHTED if weighted else 0)
    code, words = encodings.choose(slots, weights, ads)
    assert encodings.NAMES[code & encodings.ENCODING_MASK] == chosen
    assert bool(code & WEIGHTED) == weighted
    assert words == -(-encodings.size_of(slots, code, ads) // encodings.WORD_BYTES)


def test_zipf_postings_take_the_bits_that_they_are_meant_to() -> None:
    """30 features an ad, exponent 1.1: what the price per byte was chosen for."""
    ads, features, per_ad = 60_000, 20_000, 30
    random = np.random.default_rng(0)
    shares = np.arange(1, features + 1) ** -1.1
    drawn_features = random.choice(features, 4 * per_ad * ads, p=shares / shares.sum())
    rows = [np.unique(row)[:per_ad] for row in drawn_features.reshape(ads, -1)]
    bounds = np.append(0, np.cumsum([len(row) for row in rows]))
    flat = np.concatenate(rows).astype(np.int32)
    keep = np.ones(ads, np.uint8)
    for weights, bits in (
        (random.integers(1, 255, len(flat)).astype(np.uint8), 22.0),
        (np.full(len(flat), 255, np.uint8), 16.5),
    ):
        postings = Postings.built(ads, bounds, flat, weights, keep, features)
        assert 8 * postings.memory_bytes() / len(flat) <= bits
