"""Crossing: a value of the context and a value of a candidate become one raw id.

Owns the mixing of two ids. Promises that a missing value crosses to the missing value, and the
same id in training and in serving.
"""

from __future__ import annotations

import numpy as np

from .matches import Ints

# Odd, with bits all over, so that neither id's pattern stays (Steele and others, SplitMix).
_CONTEXT, _ITEM, _MIX = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)


def cross(contexts: Ints, items: Ints) -> Ints:
    """63-bit ids of pairs of raw ids; 0 where either is 0. Any one shape."""
    mixed = contexts.astype(np.uint64) * _CONTEXT ^ items.astype(np.uint64) * _ITEM
    mixed = (mixed ^ mixed >> np.uint64(31)) * _MIX
    ids = (mixed ^ mixed >> np.uint64(29)) >> np.uint64(1)
    return np.where((contexts == 0) | (items == 0), 0, ids.astype(np.int64))
