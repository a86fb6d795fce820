"""Merge-path: work cut into equal parts however uneven its rows are.

The path walks through the ends of R rows and T items merged in order, so it has
R + T steps. Cut into equal stretches, every part gets the same sum of rows and
items, where a row per part would leave one part with the longest row.
"""

from typing import Any

from .compiled import inlined


@inlined
def split(ends: Any, rows: int, diagonal: int) -> Any:
    """How many rows end within the first `diagonal` steps of the path.

    Args:
        ends: [rows] int64, running totals of the rows' items.
        rows: R, at least 1.
        diagonal: 0..R + T.

    Returns:
        x; the other `diagonal - x` steps are items.
    """
    low = max(diagonal - ends[rows - 1], 0)
    high = min(diagonal, rows)
    while low < high:
        middle = (low + high) // 2
        if ends[middle] <= diagonal - middle - 1:
            low = middle + 1
        else:
            high = middle
    return low
