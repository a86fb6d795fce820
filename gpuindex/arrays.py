"""Array types, and how arrays that a view may hold grow: by replacement."""

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]
UInt64 = NDArray[np.uint64]
Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

Array = TypeVar("Array", bound=NDArray[Any])


def row_bytes(array: NDArray[Any]) -> int:
    """Bytes of one row."""
    return array.itemsize * math.prod(array.shape[1:])


def growth_bytes(array: NDArray[Any], needed: int) -> int:
    """How many bytes longer `grown` would make an array; arguments as there."""
    if needed <= len(array):
        return 0
    return (max(needed, 2 * len(array)) - len(array)) * row_bytes(array)


def grown(array: Array, used: int, needed: int, fill: Any = None) -> Array:
    """An array with room for `needed` rows: the same one, or a longer copy.

    The old array is left as it is, for the views that hold it.

    Args:
        array: [capacity, ...].
        used: rows to copy.
        needed: rows to have room for.
        fill: value of the new rows; None leaves them undefined.
    """
    if needed <= len(array):
        return array
    capacity = max(needed, 2 * len(array))
    longer = np.empty((capacity, *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    if fill is not None:
        longer[used:] = fill
    return longer  # type: ignore[return-value]
