"""Merge-path shares out every item once, and every part gets equal work."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuindex.kernels.cuda.balance import split

rows_before: Any = split.py_func  # type: ignore[attr-defined]


@given(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=20), parts=st.integers(1, 40))
def test_parts_are_equal_stretches_that_cover_all_rows_and_items(
    sizes: list[int], parts: int
) -> None:
    ends = np.cumsum(sizes)
    steps = len(sizes) + int(ends[-1])
    stretch = -(-steps // parts)
    cuts = [min(steps, stretch * part) for part in range(parts + 1)]
    rows = [rows_before(ends, len(sizes), cut) for cut in cuts]
    assert (rows[0], rows[-1]) == (0, len(sizes))
    for (before, after), (first, last) in zip(pairwise(cuts), pairwise(rows), strict=True):
        assert first <= last
        assert 0 <= (after - last) - (before - first) <= stretch


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_a_row_is_passed_when_all_its_items_are(sizes: list[int]) -> None:
    ends = np.cumsum(sizes)
    for diagonal in range(len(sizes) + int(ends[-1]) + 1):
        rows = rows_before(ends, len(sizes), diagonal)
        items = diagonal - rows
        assert all(end <= items for end in ends[:rows])
        assert items <= ends[min(rows, len(sizes) - 1)]
