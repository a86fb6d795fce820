"""Priors: what the whole population did with each feature value, as of a moment.

Owns popularity, repeat behaviour and ad response per vocabulary row. Promises that only events
and ads before the moment count. Values outside the vocabulary have no evidence of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .statistics import COLUMNS, DECAY_DAYS, Statistics
from .vocabulary import Vocabulary

COLUMN_NAMES = (
    *(f"popularity_{int(days)}d" for days in DECAY_DAYS),
    "buyers",
    "repeat_rate",
    "gap",
    "response",
    "showings",
)
"""Names of the priors, in the order of their columns."""

# Five imaginary buyers without a second purchase: a value met once is not a habit.
_REPEAT_PRIOR = 5.0
_REPEATED, _GAP = COLUMNS.index("repeated"), COLUMNS.index("gap")


class PriorCounts:
    """Sums over users and ads from which the priors of one moment are made."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._ads = np.zeros((len(vocabulary), 2))
        self._users = np.zeros((len(vocabulary), len(DECAY_DAYS) + 3))

    def add_users(self, every: Sequence[Statistics]) -> None:
        """Count users' statistics as of the moment."""
        if not every:
            return
        # User by user, because looking up ascending ids is three times as fast.
        at = np.concatenate(
            [self._vocabulary.find(statistics.ids, statistics.fields) for statistics in every]
        )
        columns = np.concatenate([statistics.columns for statistics in every])
        repeated = columns[:, _REPEATED]
        sums = (
            *np.expm1(columns[:, : len(DECAY_DAYS)]).T,
            np.ones(len(at)),
            repeated,
            columns[:, _GAP] * repeated,
        )
        for column, weights in enumerate(sums):
            self._users[:, column] += np.bincount(at, weights, len(self._vocabulary))

    def add_ads(self, rows: np.ndarray, buyers: np.ndarray, weight: float) -> None:
        """Count how an earlier period's ads were received.

        Args:
            rows: [A, F] vocabulary rows of the period's ads.
            buyers: [A] users who bought what the ad sells in that period.
            weight: of the period, smaller the longer ago it was.
        """
        flat, size = rows.reshape(-1), len(self._vocabulary)
        self._ads[:, 0] += weight * np.bincount(flat, minlength=size)
        self._ads[:, 1] += weight * np.bincount(flat, np.repeat(buyers, rows.shape[1]), size)

    def priors(self) -> np.ndarray:
        """[V, len(COLUMN_NAMES)] float32; counts and rates as logs."""
        users, ads = self._users.copy(), self._ads.copy()
        users[len(self._vocabulary.ids) :] = 0
        ads[len(self._vocabulary.ids) :] = 0
        decays = len(DECAY_DAYS)
        buyers, repeaters, gaps = users[:, decays], users[:, decays + 1], users[:, decays + 2]
        return np.column_stack(
            (
                np.log1p(users[:, :decays]),
                np.log1p(buyers),
                repeaters / (buyers + _REPEAT_PRIOR),
                gaps / (repeaters + 1),
                np.log((ads[:, 1] + 0.5) / (ads[:, 0] + 1)),
                np.log1p(ads[:, 0]),
            )
        ).astype(np.float32)
