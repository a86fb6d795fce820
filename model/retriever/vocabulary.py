"""Vocabulary: which raw ids have a row of their own in the embedding tables.

Owns the way from a raw id to a row. Promises that a value outside the vocabulary shares the one
row of its field, so unseen brands and products still score by their other fields.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .lookup import positions


@dataclass(frozen=True)
class Vocabulary:
    """Sorted raw ids; row i belongs to ids[i], row len(ids) + f to any other value of field f.

    Attributes:
        ids: [V] int64 raw ids, ascending.
        fields: number of fields.
    """

    ids: np.ndarray
    fields: int

    def __len__(self) -> int:
        return len(self.ids) + self.fields

    @classmethod
    def of(cls, columns: np.ndarray, min_count: int) -> Vocabulary:
        """The values that occur at least min_count times in [B, fields] raw ids."""
        ids, counts = np.unique(columns, return_counts=True)
        return cls(ids[(counts >= min_count) & (ids > 0)], columns.shape[1])

    def joined(self, other: Vocabulary) -> Vocabulary:
        """The values of both, of the same fields."""
        return Vocabulary(np.union1d(self.ids, other.ids), self.fields)

    def rows(self, columns: np.ndarray) -> np.ndarray:
        """[B, fields] raw ids to [B, fields] int64 rows."""
        return self.find(columns, np.arange(self.fields))

    def find(self, ids: np.ndarray, fields: np.ndarray) -> np.ndarray:
        """Raw ids with their fields (any shapes that broadcast) to int64 rows."""
        at = positions(self.ids, ids)
        return np.where(at >= 0, at, len(self.ids) + fields)
