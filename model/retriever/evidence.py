"""Evidence: what a user's items say about items that listed pairs lead to.

Owns the numbers behind HitMatch's listed pairs. Promises that training and serving compute them
with the same function. Which weight a number gets is learned in `hitmatch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cooccurrence import Cooccurrence

# A month: what was bought since then says most about what comes next.
RECENT_DAYS = 30.0
# Pair weights are shares of users, mostly a few hundredths; times this, their logs spread.
_UNIT = 1000.0

EVIDENCE = ("pairs", f"pairs_{int(RECENT_DAYS)}d", "strongest", "sources")
"""Names of the columns."""


@dataclass(frozen=True)
class Evidence:
    """Evidence for the items that a user's items lead to; N items.

    Attributes:
        ids: [N] int64 raw ids, ascending.
        columns: [N, len(EVIDENCE)] float32; an item without evidence would have zeros.
    """

    ids: np.ndarray
    columns: np.ndarray


def gather(met: np.ndarray, age_days: np.ndarray, pairs: Cooccurrence) -> Evidence:
    """Add up the pairs of every item met.

    Sums, the largest and the number of pairs enter as log1p.

    Args:
        met: [M] int64 positions among the co-occurrences' items.
        age_days: [M] float32 days since each was last met.
        pairs: the pairs.
    """
    starts, ends = pairs.pair_offsets[met], pairs.pair_offsets[met + 1]
    lengths = ends - starts
    # Positions starts[i] .. ends[i] - 1 of every i in one array.
    shifts = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    at = np.arange(int(lengths.sum())) + shifts
    order = np.argsort(pairs.pair_targets[at], kind="stable")
    targets, weights = pairs.pair_targets[at][order], pairs.pair_weights[at][order]
    if not len(targets):
        return Evidence(targets, np.zeros((0, len(EVIDENCE)), np.float32))
    recent = np.repeat(np.exp(age_days / -RECENT_DAYS), lengths)[order]
    new = np.flatnonzero(np.diff(targets, prepend=-1))
    columns = (
        _UNIT * np.add.reduceat(weights, new),
        _UNIT * np.add.reduceat(weights * recent, new),
        _UNIT * np.maximum.reduceat(weights, new),
        np.diff(new, append=len(targets)),
    )
    return Evidence(pairs.ids[targets[new]], np.log1p(np.column_stack(columns)).astype(np.float32))
