"""Measures of a ranking of all items: recall, hit rate and NDCG, for each user.

Owns their definitions. Promises the same users in the same order for every system, so that systems
can be compared user by user. Intervals are `bootstrap`'s.

Of a user's items T in a part and the first K items of a list L:
    recall@K = |T & L| / |T|
    hr@K     = 1 if T & L is not empty, else 0
    ndcg@K   = sum over hits at place p of 1 / log2(1 + p), over the largest such sum for |T| items
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..datasets.complete_journey.retrieval import Truth

PLACES = (10, 100)
_USERS = 128

Scores = NDArray[np.float32]
ScoresOf = Callable[[NDArray[np.int64]], Scores]
"""[B] users, as positions, to [B, I] scores of every item."""


class Measures:
    """The measures of one part of the split."""

    def __init__(self, truth: Truth, seen: NDArray[np.bool_]) -> None:
        """Take what was bought.

        Args:
            truth: of the part.
            seen: [U, I] bool, what each user had bought before the part: never novel.
        """
        self._seen = seen
        self._bought = {
            "all": _cells(seen.shape, truth.user, truth.item),
            "novel": _cells(seen.shape, truth.user[truth.novel], truth.item[truth.novel]),
        }

    def of(self, scores_of: ScoresOf) -> dict[str, NDArray[np.float64]]:
        """Measure a system.

        Args:
            scores_of: the system; equals are ordered by position.

        Returns:
            By axis (`recall@10/all`, `ndcg@100/novel`, ...): a value for each user who bought
            anything that counts there, by user.
        """
        parts: dict[str, list[NDArray[np.float64]]] = {}
        for start in range(0, len(self._seen), _USERS):
            users = np.arange(start, min(start + _USERS, len(self._seen)))
            scores = scores_of(users)
            for kind, bought in self._bought.items():
                asked = bought[users].any(axis=1)
                truth = bought[users[asked]]
                hidden = self._seen[users[asked]] & (kind == "novel")
                best = _first(np.where(hidden, -np.inf, scores[asked]))
                hits = np.take_along_axis(truth, best, axis=1)
                for axis, values in _measure(hits, truth.sum(axis=1)).items():
                    parts.setdefault(f"{axis}/{kind}", []).append(values)
        return {axis: np.concatenate(values) for axis, values in parts.items()}


def _measure(
    hits: NDArray[np.bool_], bought: NDArray[np.int64]
) -> Mapping[str, NDArray[np.float64]]:
    """Measures of [B, 100] hits in order, for [B] numbers of items bought."""
    gains = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.cumsum(gains)
    found: dict[str, NDArray[np.float64]] = {}
    for place in PLACES:
        first = hits[:, :place]
        found[f"recall@{place}"] = first.sum(axis=1) / bought
        found[f"hr@{place}"] = np.asarray(first.any(axis=1), np.float64)
        best = ideal[np.minimum(bought, first.shape[1]) - 1]
        found[f"ndcg@{place}"] = np.asarray(first @ gains[: first.shape[1]] / best)
    return found


def _first(scores: Scores) -> NDArray[np.int64]:
    """[B, 100] items of the highest scores, highest first, equals by position."""
    order: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, : max(PLACES)]
    return order


def _cells(
    shape: tuple[int, ...], users: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.bool_]:
    cells = np.zeros(shape, np.bool_)
    cells[users, items] = True
    return cells
