"""The known features as a kernel finds them: a hash table over the bytes of their keys."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpuindex.kernels.cpu.keys import ABSENT, insert

from ..features import FeatureMap

Number = TypeVar("Number", bound=np.number)

_FEW = 1_024


class KnownFeatures:
    """Every feature that a map has numbered, as of the last `update`.

    Attributes:
        arena, table: as the kernel `insert` has them.
    """

    def __init__(self, features: FeatureMap) -> None:
        self._features = features
        self._count = 0
        self.arena: NDArray[np.uint8] = np.empty(16 * _FEW, np.uint8)
        self._bounds: NDArray[np.int64] = np.zeros(_FEW + 1, np.int64)
        self.table = _table(2 * _FEW)
        self.update()

    def update(self) -> None:
        """Take in what was numbered since."""
        first, count = self._count, len(self._features)
        if first == count:
            return
        keys = [_bytes(self._features.key(number)) for number in range(first, count)]
        ends = self._bounds[first] + np.cumsum([len(key) for key in keys])
        self.arena = _grown(self.arena, int(self._bounds[first]), int(ends[-1]))
        self.arena[self._bounds[first] : ends[-1]] = np.frombuffer(b"".join(keys), np.uint8)
        self._bounds = _grown(self._bounds, first + 1, count + 1)
        self._bounds[first + 1 : count + 1] = ends
        if 2 * count > len(self.table):
            self.table = _table(1 << (2 * count).bit_length())
            first = 0
        insert(self.arena, self._bounds, first, count, self.table)
        self._count = count


def _table(places: int) -> NDArray[np.int64]:
    return np.full((places, 4), ABSENT, np.int64)


def _bytes(key: str) -> bytes:
    """A key as ads in JSON have it; nothing for one that they cannot have."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        return b""


def _grown(array: NDArray[Number], used: int, needed: int) -> NDArray[Number]:
    """The array, or a copy with room for that many and as many again."""
    if needed <= len(array):
        return array
    larger = np.empty(2 * needed, array.dtype)
    larger[:used] = array[:used]
    return larger
