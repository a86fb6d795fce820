"""Sides: one user and some ads as the network reads them.

Owns what is computed from a history or from an ad's raw ids before anything learned comes in.
Promises the same numbers to training and to serving, which both build their inputs here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import History
from .cooccurrence import Cooccurrence
from .evidence import Evidence, gather
from .statistics import COLUMNS, DECAY_DAYS, USER_COLUMNS, Statistics, Window, summarise
from .vocabulary import Vocabulary

# The slowest decay: what a user has met at all, the recent a little more.
_POOL_COLUMN = COLUMNS.index(f"count_{int(max(DECAY_DAYS))}d")
_RECENCY = COLUMNS.index("recency")


@dataclass(frozen=True)
class UserSide:
    """One user as of one moment; K values met, U profile and C context fields.

    Attributes:
        ids: [K] int64 raw ids of the values met, ascending.
        fields: [K] int64 item fields of these.
        rows: [K] int64 vocabulary rows of these.
        columns: [K, S] float32 statistics of these.
        weights: [K] float32 weights of these in the pooled history.
        profile: [U + C] int64 raw ids of profile and context.
        known: [J] int64 positions in ids of the items that take part in the co-occurrences.
        sources: [J] int64 positions of these among the co-occurrences' items.
        evidence: for the items that listed pairs lead to, N of them.
        led_rows: [N] int64 vocabulary rows of these items.
    """

    ids: np.ndarray
    fields: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    profile: np.ndarray
    known: np.ndarray
    sources: np.ndarray
    evidence: Evidence
    led_rows: np.ndarray

    @property
    def about_user(self) -> np.ndarray:
        """[len(USER_COLUMNS)] float32; zeros without a history."""
        about: np.ndarray = self.columns[:1, -len(USER_COLUMNS) :].sum(axis=0)
        return about


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
    known = np.flatnonzero(statistics.fields == 0)
    sources = cooccurrence.positions(statistics.ids[known])
    known, sources = known[sources >= 0], sources[sources >= 0]
    evidence = gather(sources, np.expm1(statistics.columns[known, _RECENCY]), cooccurrence)
    return UserSide(
        ids=statistics.ids,
        fields=statistics.fields,
        rows=vocabulary.find(statistics.ids, statistics.fields),
        columns=statistics.columns,
        weights=statistics.columns[:, _POOL_COLUMN],
        profile=profile,
        known=known,
        sources=sources,
        evidence=evidence,
        led_rows=vocabulary.find(evidence.ids, np.zeros(1, np.int64)),
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
