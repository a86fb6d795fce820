"""Baselines of retrieval: what needs no training, or only a closed form.

Owns their scores for every user and item. Promises that they rest only on purchases before the
moment they are asked about. Measuring them is `retrieval`'s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ..datasets.complete_journey.retrieval import Split

Scores = NDArray[np.float32]

DAY_MS = 86_400_000
POPULARITY_DAYS = 28
DECAY_DAYS = 60.0
# Strength of EASE's regularisation, in users (arXiv 1905.03375).
RIDGE = 600.0

# The blend's parts: own counts, the same decayed, EASE on both kinds of input, fashion.
BLEND_DAYS = (30.0, 120.0)
_SWEEPS = 3
_FACTORS = (0.0, 0.5, 0.8, 1.25, 2.0)


class Past:
    """The split's purchases before a moment; U users, I items."""

    def __init__(self, split: Split, now_ms: int) -> None:
        self._shape = (len(split.users), len(split.items))
        known = split.time_ms < now_ms
        self._cell = (split.user * len(split.items) + split.item)[known]
        self._item = split.item[known]
        self._age_days = (now_ms - split.time_ms[known]) / DAY_MS

    def counts(self, decay_days: float = np.inf) -> Scores:
        """[U, I]: how often each user bought each item, older purchases counting less."""
        weights = np.exp(-self._age_days / decay_days)
        cells = np.bincount(self._cell, weights, self._shape[0] * self._shape[1])
        return cells.reshape(self._shape).astype(np.float32)

    def popularity(self, days: float = np.inf) -> Scores:
        """[I]: purchases of each item in the last days."""
        recent = self._item[self._age_days <= days]
        return np.bincount(recent, minlength=self._shape[1]).astype(np.float32)


def ease(matrix: Scores, ridge: float = RIDGE) -> Scores:
    """EASE's scores of the users that it was fitted on.

    The regression of items on items is X - (XX' + r)^-1 X / d with d the diagonal of
    (X'X + r)^-1, so that nothing of the size items x items is made.

    Args:
        matrix: [U, I] interactions X.
        ridge: r.
    """
    kernel = matrix @ matrix.T
    kernel[np.diag_indices(len(kernel))] += ridge
    solved = cho_solve(cho_factor(kernel, overwrite_a=True), matrix)
    diagonal = (1 - np.einsum("ui,ui->i", matrix, solved)) / ridge
    scores: Scores = matrix - solved / diagonal
    return scores


def scores(split: Split, now_ms: int) -> dict[str, Scores]:
    """Every baseline but the blend, by name; equals are broken by popularity."""
    past = Past(split, now_ms)
    own = past.counts()
    popularity = past.popularity()
    tie = popularity / (popularity.sum() + 1)
    return {
        "popularity": np.broadcast_to(popularity, own.shape),
        "popularity_28d": np.broadcast_to(past.popularity(POPULARITY_DAYS), own.shape),
        "personal_frequency": own + tie,
        "personal_frequency_60d": past.counts(DECAY_DAYS) + tie * 1e-3,
        "ease": ease((own > 0).astype(np.float32)),
        "ease_log": ease(np.log1p(own)),
    }
