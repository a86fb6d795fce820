"""Products and biases are NumPy's, on every side."""

from typing import Any

import numpy as np
import pytest

from gpuindex.columns import AdColumns
from gpuindex.kernels.cpu.shards import PAGE_SLOTS


def columns(ads: int, width: int, random: np.random.Generator) -> AdColumns:
    made = AdColumns.empty(ads, width, 0)
    made.embeddings[:] = random.integers(-128, 128, (ads, width))
    return made


@pytest.mark.parametrize("bias_factor", [0.0, 7.25])
@pytest.mark.parametrize(("width", "used"), [(8, True), (33, True), (8, False), (0, True)])
def test_scores_become_sum_plus_product_plus_bias(
    twins: Any, ads: Any, width: int, used: bool, bias_factor: float
) -> None:
    """Widths below and above a warp's; no vector; halves that round to even."""
    random = np.random.default_rng(width)
    sizes = [30, 57]
    tail_ads = 21
    *firsts, tail_first = (part * PAGE_SLOTS for part in range(3))
    slots = tail_first + PAGE_SLOTS
    own = [columns(size, width, random) for size in [*sizes, tail_ads + 3]]
    placed = [
        (first, ads.drawn(size, [0.5]).shard(each))
        for first, size, each in zip(firsts, sizes, own[:-1], strict=True)
    ]
    table, _held = twins.table(placed)
    vector = random.integers(-3_000, 3_000, width if used else 0).astype(np.int16)
    biases = random.integers(-8, 8, (4, PAGE_SLOTS)).astype(np.float32) / np.float32(2)
    pages = np.array([3, 0, 2], np.int32)
    before = random.integers(-1_000, 1_000, slots).astype(np.int32)
    scores = twins.put(before)
    tail_embeddings = twins.put(own[-1].embeddings)
    twins.dense(
        table,
        tail_first,
        tail_ads,
        tail_embeddings,
        twins.put(vector),
        11,
        bias_factor,
        twins.put(pages),
        twins.put(biases),
        scores,
    )
    found = twins.get(scores)
    for part, each in enumerate(own):
        ads_here = [*sizes, tail_ads][part]
        here = slice(part * PAGE_SLOTS, part * PAGE_SLOTS + ads_here)
        wanted = before[here].astype(np.int64) * 11
        if used:
            wanted += each.embeddings[:ads_here].astype(np.int64) @ vector.astype(np.int64)
        bias = biases[pages[part], :ads_here] * np.float32(bias_factor)
        np.testing.assert_array_equal(found[here], wanted + np.rint(bias).astype(np.int64))
