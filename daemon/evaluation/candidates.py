"""Candidates: what the retriever hands on to a ranker on some day, and what became of it.

Owns the examples of the question "which products does this household buy in the coming period?":
the visits of the ranking of products. Promises that they are found as a worker finds them, and
that a candidate is what the index said before anything of the period was known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.tables import RETRIEVAL

from ..datasets.complete_journey.retrieval import Split, Truth
from .measures import Ints
from .pipeline import Pipeline

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """N candidates, by day and by user.

    Attributes:
        user, item: [N] int64 positions in the split.
        now_ms: [N] int64, the day of the question.
        score: [N] float32, the retriever's.
        bought: [N] bool, in the period that followed.
    """

    user: Ints
    item: Ints
    now_ms: Ints
    score: NDArray[np.float32]
    bought: Mask

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def of_day(
        cls, pipeline: Pipeline, split: Split, truth: Truth, seen: Mask, depth: int
    ) -> Candidates:
        """The first items of every household that bought any, of all items and of novel ones.

        Args:
            pipeline: as of the day.
            split: whose households and items.
            truth: what was bought in the period.
            seen: [U, I] bool, what had been bought before.
            depth: items of each of a household's two lists.
        """
        households = np.unique(truth.user)
        lists = [
            _joined(pipeline, at, np.flatnonzero(seen[user]), depth)
            for user, at in zip(households, pipeline.places(split.users[households]), strict=True)
        ]
        user = np.repeat(households, [len(items) for items, _ in lists])
        item = np.concatenate([items for items, _ in lists])
        bought = np.zeros(seen.shape, np.bool_)
        bought[truth.user, truth.item] = True
        return cls(
            user,
            item,
            np.full(len(user), pipeline.now_ms),
            np.concatenate([scores for _, scores in lists]),
            bought[user, item],
        )

    @classmethod
    def together(cls, parts: Sequence[Candidates]) -> Candidates:
        """All of them."""
        return cls(*(np.concatenate([vars(part)[name] for part in parts]) for name in _COLUMNS))

    def chosen(self, kept: Mask) -> Candidates:
        """Those that a mask [N] names."""
        return replace(self, **{name: vars(self)[name][kept] for name in _COLUMNS})

    def sampled(self, passed: int, seed: int) -> Candidates:
        """All that were bought, and about so many for each household and day that were not."""
        households = len(np.unique(self.now_ms * (self.user.max(initial=0) + 1) + self.user))
        share = passed * households / max((~self.bought).sum(), 1)
        draw = np.random.default_rng(seed).random(len(self))
        return self.chosen(self.bought | (draw < share))

    def visits(self, split: Split, items: pa.Table) -> pa.Table:
        """The candidates as visits that a ranker learns from: a household on a day is one.

        Args:
            split: whose households and items.
            items: the fields of every item, in the split's order.
        """
        _, visit = np.unique(self.now_ms * len(split.users) + self.user, return_inverse=True)
        fields = items.take(self.item)
        return pa.table(
            {
                "user_id": split.users[self.user],
                "time_ms": self.now_ms,
                "visit_id": visit,
                "ad_id": split.items[self.item],
                **{name: fields[name] for name in fields.column_names},
                "engage": self.bought.astype(np.int8),
                "consume": np.zeros(len(self), np.int8),
                RETRIEVAL: self.score,
            }
        )


_COLUMNS = ("user", "item", "now_ms", "score", "bought")


def _joined(
    pipeline: Pipeline, user: int, seen: Ints, depth: int
) -> tuple[Ints, NDArray[np.float32]]:
    """The first of all items and the first novel ones, by item, with their scores."""
    found = [pipeline.retrieve(user, hidden, depth) for hidden in (_NOTHING, seen)]
    items, first = np.unique(np.concatenate([ids for ids, _ in found]), return_index=True)
    return items, np.concatenate([scores for _, scores in found])[first]


_NOTHING: Ints = np.zeros(0, np.int64)
