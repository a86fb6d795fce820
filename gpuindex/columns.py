"""What a slot holds besides postings, fixed when its version of the ad arrives."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Int8, Int32, Int64, grown, growth_bytes, row_bytes

NO_GROUP = -1


@dataclass(frozen=True, eq=False)
class AdColumns:
    """Opaque values by slot; A slots or capacity for them.

    Attributes:
        ad_ids: [A] int64.
        versions: [A] int64.
        targeting: [A] int32, numbers of rule sets.
        groups: [A] int32, negative for none.
        embeddings: [A, D] int8.
        payload: [A, P] int64.
    """

    ad_ids: Int64
    versions: Int64
    targeting: Int32
    groups: Int32
    embeddings: Int8
    payload: Int64

    @staticmethod
    def empty(ads: int, embedding_width: int, payload_width: int) -> "AdColumns":
        """Columns with room for some ads, their values undefined."""
        return AdColumns(
            ad_ids=np.empty(ads, np.int64),
            versions=np.empty(ads, np.int64),
            targeting=np.empty(ads, np.int32),
            groups=np.empty(ads, np.int32),
            embeddings=np.empty((ads, embedding_width), np.int8),
            payload=np.empty((ads, payload_width), np.int64),
        )

    def ad_bytes(self) -> int:
        """Bytes of one ad."""
        return sum(row_bytes(array) for _, array in self.items())

    def growth_bytes(self, needed: int) -> int:
        """How many bytes longer `grown` would make them."""
        return sum(growth_bytes(array, needed) for _, array in self.items())

    def grown(self, used: int, needed: int) -> "AdColumns":
        """Columns with room for `needed` ads; these stay as they are."""
        return AdColumns(**{name: grown(array, used, needed) for name, array in self.items()})

    def copied(self, ads: int) -> "AdColumns":
        """A copy of the first ads."""
        return AdColumns(**{name: array[:ads].copy() for name, array in self.items()})

    def items(self) -> list[tuple[str, NDArray[Any]]]:
        """Names and arrays."""
        return list(vars(self).items())

    def like(self, ads: int) -> "AdColumns":
        """Columns of the same widths with room for some ads, values undefined."""
        return AdColumns(
            **{name: np.empty((ads, *array.shape[1:]), array.dtype) for name, array in self.items()}
        )

    def fill(self, rows: Int64, source: "AdColumns", slots: Int64) -> None:
        """Copy the given slots of other columns to the given rows of these."""
        for name, array in self.items():
            array[rows] = getattr(source, name)[slots]

    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for _, array in self.items())
