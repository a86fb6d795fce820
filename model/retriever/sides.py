"""Sides: one user and some ads as the network reads them.

Owns what is computed from a history or from an ad's raw ids before anything learned comes in.
Promises the same numbers to training and to serving, which both build their inputs here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import History
from .cooccurrence import Cooccurrence
from .statistics import COLUMNS, DECAY_DAYS, Statistics, Window, summarise
from .vocabulary import Vocabulary

# The slowest decay: what a user has met at all, the recent a little more.
_POOL_COLUMN = COLUMNS.index(f"count_{int(max(DECAY_DAYS))}d")


@dataclass(frozen=True)
class UserSide:
    """One user as of one moment; K values met, U profile and C context fields, R factors.

    Attributes:
        ids: [K] int64 raw ids of the values met, ascending.
        fields: [K] int64 item fields of these.
        rows: [K] int64 vocabulary rows of these.
        columns: [K, S] float32 statistics of these.
        weights: [K] float32 weights of these in the pooled history.
        profile: [U + C] int64 raw ids of profile and context.
        factors: [R] float32 sum of the met items' source factors.
        pair_ids: [N] int64 raw ids that listed pairs lead to, ascending.
        pair_weights: [N] float32 summed weights of these.
    """

    ids: np.ndarray
    fields: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    profile: np.ndarray
    factors: np.ndarray
    pair_ids: np.ndarray
    pair_weights: np.ndarray


def user_side(
    statistics: Statistics,
    profile: np.ndarray,
    vocabulary: Vocabulary,
    cooccurrence: Cooccurrence,
) -> UserSide:
    """Everything the network reads of a user.

    Args:
        statistics: of the user's window.
        profile: [U + C] int64 raw ids of profile and context.
        vocabulary: of the items.
        cooccurrence: of the items.
    """
    met = cooccurrence.positions(statistics.ids[statistics.fields == 0])
    met = met[met >= 0]
    pair_ids, pair_weights = _listed_pairs(met, cooccurrence)
    return UserSide(
        ids=statistics.ids,
        fields=statistics.fields,
        rows=vocabulary.find(statistics.ids, statistics.fields),
        columns=statistics.columns,
        weights=statistics.columns[:, _POOL_COLUMN],
        profile=profile,
        factors=cooccurrence.source[met].sum(axis=0),
        pair_ids=pair_ids,
        pair_weights=pair_weights,
    )


def item_factors(items: np.ndarray, cooccurrence: Cooccurrence) -> np.ndarray:
    """[A, R] float32 target factors of ads by their item; zero for an item without any."""
    at = cooccurrence.positions(items[:, 0])
    factors = np.zeros((len(items), cooccurrence.target.shape[1]), np.float32)
    factors[at >= 0] = cooccurrence.target[at[at >= 0]]
    return factors


def statistics_before(history: History, window: Window, now_ms: int, max_events: int) -> Statistics:
    """Statistics of the newest events strictly before a moment."""
    end = int(np.searchsorted(history.time_ms, now_ms, side="left"))
    return summarise(window.part(max(end - max_events, 0), end), history, now_ms)


def _listed_pairs(met: np.ndarray, pairs: Cooccurrence) -> tuple[np.ndarray, np.ndarray]:
    starts, ends = pairs.pair_offsets[met], pairs.pair_offsets[met + 1]
    lengths = ends - starts
    # Positions starts[i] .. ends[i] - 1 of every i in one array.
    shifts = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    at = np.arange(int(lengths.sum())) + shifts
    sums = np.bincount(pairs.pair_targets[at], pairs.pair_weights[at], len(pairs.ids))
    reached = np.flatnonzero(sums)
    return pairs.ids[reached], sums[reached].astype(np.float32)
