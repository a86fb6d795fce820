"""Arrays on the device that follow arrays of the host.

All of it happens on the device's queue, in the order of asking. So a search that
was asked for before a write reads what was there before, and memory that is let
go is used again only behind what still reads it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Int32, row_bytes
from ..kernels.cuda.device import current

# A copy goes through pinned memory of this size at most.
CHUNK_BYTES = 32 << 20


def copy(source: NDArray[Any], target: Any) -> None:
    """Copy rows from the host to as many rows on the device, a bounded piece at a time."""
    if source.size == 0:
        return
    rows = max(1, CHUNK_BYTES // row_bytes(source))
    for begin in range(0, len(source), rows):
        target[begin : begin + rows] = current().put(source[begin : begin + rows])


def uploaded(source: NDArray[Any]) -> Any:
    """A copy on the device."""
    target = current().arrays.empty(source.shape, source.dtype)
    copy(source, target)
    return target


class Follower:
    """An array on the device that follows one of the host that is only appended to.

    Like that one it is replaced when it is full, and what was copied before stays
    as it is, for the views that hold it.

    Attributes:
        rows: [capacity, ...] on the device.
    """

    def __init__(self) -> None:
        """Hold nothing yet; whoever asks for the rows has had it follow before."""
        self.rows: Any = None
        self._used = 0

    def follow(self, source: NDArray[Any], used: int) -> Any:
        """Copy the rows that came since the last time; the array.

        Args:
            source: the host's array, its first rows those of the last time.
            used: how many rows of it are valid.
        """
        self.fit(source)
        copy(source[self._used : used], self.rows[self._used : used])
        self._used = used
        return self.rows

    def fit(self, source: NDArray[Any]) -> None:
        """Be as long as the host's array."""
        if self.rows is None or len(self.rows) < len(source):
            longer = current().arrays.empty(source.shape, source.dtype)
            if self.rows is not None:
                longer[: len(self.rows)] = self.rows
            self.rows = longer


def scatter(places: Int32, values: NDArray[Any], target: Any) -> None:
    """Overwrite some rows on the device.

    Args:
        places: [n] int32, distinct.
        values: [n, ...].
        target: [..., ...] on the device.
    """
    if len(places):
        target[current().put(places)] = current().put(values)


def total_bytes(arrays: Iterable[Any]) -> int:
    """Bytes of several arrays; None stands for one that is not there yet."""
    return sum(int(array.nbytes) for array in arrays if array is not None)


def octets(records: NDArray[Any]) -> NDArray[np.uint8]:
    """[n, m * size] uint8, the bytes of [n, m] records: devices keep no structured types."""
    return np.ascontiguousarray(records).view(np.uint8)
