"""Measures of a ranking of all items: recall, hit rate and NDCG, for each user.

Owns their definitions. Promises the same users in the same order for every system, so that systems
can be compared user by user. Intervals are `bootstrap`'s.

Of a user's items T in a part and the first K items of a list L:
    recall@K = |T & L| / |T|
    hr@K     = 1 if T & L is not empty, else 0
    ndcg@K   = sum over hits at place p of 1 / log2(1 + p), over the largest such sum for |T| items
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..datasets.complete_journey.retrieval import Truth

PLACES = (10, 100)
LENGTH = max(PLACES)

Ints = NDArray[np.int64]
Scores = NDArray[np.float32]

_GAINS = 1 / np.log2(np.arange(2, LENGTH + 2))
_NOTHING: Ints = np.zeros(0, np.int64)

First = Callable[[int, Ints], Ints]
"""A system: a user (position) and items that are not wanted, to its first LENGTH other items."""


def by_scores(scores_of: Callable[[int], Scores]) -> First:
    """The system that orders items by a user's [I] scores, equals by position."""

    def first(user: int, hidden: Ints) -> Ints:
        scores = scores_of(user).copy()
        scores[hidden] = -np.inf
        return np.argsort(-scores, kind="stable")[:LENGTH]

    return first


class Measures:
    """The measures of one part of the split; U users, I items."""

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

    def of(self, first: First) -> dict[str, NDArray[np.float64]]:
        """Measure a system.

        Returns:
            By axis (`recall@10/all`, `ndcg@100/novel`, ...): a value for each user who bought
            anything that counts there, by user.
        """
        found: dict[str, list[float]] = {}
        for kind, bought in self._bought.items():
            for user in np.flatnonzero(bought.any(axis=1)).tolist():
                hidden = np.flatnonzero(self._seen[user]) if kind == "novel" else _NOTHING
                hits = bought[user, first(user, hidden)]
                for measure, value in _measure(hits, int(bought[user].sum())):
                    found.setdefault(f"{measure}/{kind}", []).append(value)
        return {axis: np.array(values) for axis, values in found.items()}


def _measure(hits: NDArray[np.bool_], bought: int) -> Iterator[tuple[str, float]]:
    """Measures of [LENGTH] hits in order, for the number of items bought."""
    for place in PLACES:
        top = hits[:place]
        yield f"recall@{place}", top.sum() / bought
        yield f"hr@{place}", float(top.any())
        yield f"ndcg@{place}", top @ _GAINS[: len(top)] / _GAINS[: min(bought, place)].sum()


def _cells(shape: tuple[int, ...], users: Ints, items: Ints) -> NDArray[np.bool_]:
    cells = np.zeros(shape, np.bool_)
    cells[users, items] = True
    return cells
