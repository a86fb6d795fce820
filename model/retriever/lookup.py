"""Lookup: where values stand in an ascending array.

Owns the one search that vocabularies, co-occurrences and periods share. Promises -1 for a value
that is not there, also in an empty array.
"""

from __future__ import annotations

import numpy as np


def positions(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of wanted values, of any shape, in an ascending array without repeats; else -1."""
    if not len(ascending):
        return np.full(np.shape(wanted), -1)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[at] == wanted, at, -1)
