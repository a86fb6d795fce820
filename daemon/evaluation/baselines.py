"""Baselines of retrieval: what needs no training, or only a closed form.

Owns their scores for every user and item. Promises that they rest only on purchases before the
moment they are asked about. Measuring them is `retrieval`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

BLEND_DAYS = (30.0, 120.0)
_SWEEPS = 2
_FACTORS = (0.0, 0.5, 2.0)


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


def scores(past: Past) -> dict[str, Scores]:
    """Every baseline but the blend, by name: [U, I]; equal own counts go by popularity."""
    own = past.counts()
    popularity = past.popularity()
    tie = popularity / (popularity.sum() + 1)
    return {
        "popularity": np.broadcast_to(popularity, own.shape),
        "popularity_households": np.broadcast_to(
            (own > 0).sum(axis=0, dtype=np.float32), own.shape
        ),
        "popularity_28d": np.broadcast_to(past.popularity(POPULARITY_DAYS), own.shape),
        "personal_frequency": own + tie,
        "personal_frequency_60d": past.counts(DECAY_DAYS) + tie * 1e-3,
        "ease": ease((own > 0).astype(np.float32)),
        "ease_log": ease(np.log1p(own)),
    }


class Blend:
    """A linear blend: own counts, the same decayed, EASE on both kinds of input, fashion."""

    def __init__(self, past: Past) -> None:
        own = past.counts()
        fashion = np.log1p(past.popularity(POPULARITY_DAYS))
        self._parts = [
            np.log1p(own),
            *(np.log1p(past.counts(days)) for days in BLEND_DAYS),
            ease((own > 0).astype(np.float32)),
            ease(np.log1p(own)),
            np.broadcast_to(fashion / 10, own.shape),
        ]

    def scores(self, weights: Sequence[float]) -> Scores:
        """[U, I]."""
        total = np.zeros(self._parts[0].shape, np.float32)
        for weight, part in zip(weights, self._parts, strict=True):
            total += np.float32(weight) * part
        return total

    def tuned(self, worth: Callable[[Scores], float]) -> list[float]:
        """Weights for which the scores are worth most, one after the other by small factors."""
        weights = [1.0] * len(self._parts)
        best = worth(self.scores(weights))
        for _ in range(_SWEEPS):
            for at, weight in enumerate(weights):
                for factor in _FACTORS:
                    changed = [*weights[:at], weight * factor, *weights[at + 1 :]]
                    if (found := worth(self.scores(changed))) > best:
                        best, weights = found, changed
        return weights
