"""Periods: what the network sees of one week of ads and of the users who bought among them.

Owns the training examples. Promises that nothing in an example but its labels is younger than the
period's start, and that every number comes from the functions that serving calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .cooccurrence import Cooccurrence
from .lookup import positions
from .population import AdPeriod, Population, Purchases
from .priors import PriorCounts
from .sides import UserSide, item_factors, statistics_before, user_side
from .statistics import Statistics
from .vocabulary import Vocabulary

# A quarter: how soon the reception of earlier ads is forgotten.
RESPONSE_WEEKS = 13.0
_WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True)
class Example:
    """One user in one period.

    Attributes:
        user: the user's side as of the period's start.
        bought: [P] int64 positions of the period's ads whose item the user bought in it.
        spent: [P] float32 what the user spent on each of these.
    """

    user: UserSide
    bought: np.ndarray
    spent: np.ndarray


@dataclass(frozen=True)
class Period:
    """One period's ads and users; A ads, M distinct feature values on them.

    Attributes:
        items: [A, F] int64 raw ids of the ads.
        rows: [A, F] int64 vocabulary rows of the ads.
        values: [M] int64 distinct raw ids on the ads, ascending, without 0.
        value_at: [A, F] int64 positions in values; M for a missing value.
        factors: [A, R] float32 target factors of the ads' items.
        sources: [I, R] float32 source factors of all items that have some.
        priors: [V, N] float32 priors as of the period's start.
        examples: users who bought any of the ads.
    """

    items: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    value_at: np.ndarray
    factors: np.ndarray
    sources: np.ndarray
    priors: np.ndarray
    examples: list[Example]


class PeriodBuilder:
    """Cuts periods out of a population."""

    def __init__(self, population: Population, vocabulary: Vocabulary, max_events: int) -> None:
        self._population = population
        self._vocabulary = vocabulary
        self._max_events = max_events
        self._bought = [population.bought(ads) for ads in population.periods]

    def buyers(self, at: int) -> int:
        """Users who bought an ad of the period at that position: its number of examples."""
        return len(np.unique(self._bought[at].users))

    def priors(self, now_ms: int) -> tuple[np.ndarray, list[Statistics]]:
        """Priors as of a moment, and the statistics of every user that they were made of."""
        counts = PriorCounts(self._vocabulary)
        every = [
            statistics_before(history, window, now_ms, self._max_events)
            for history, window in zip(
                self._population.histories, self._population.windows, strict=True
            )
        ]
        counts.add_users(every)
        for ads, bought in zip(self._population.periods, self._bought, strict=True):
            if ads.end_ms <= now_ms:
                weeks = (now_ms - ads.end_ms) / _WEEK_MS
                weight = float(np.exp(-weeks / RESPONSE_WEEKS))
                counts.add_ads(self._vocabulary.rows(ads.items), _buyers(ads, bought), weight)
        return counts.priors(), every

    def build(self, at: int, cooccurrence: Cooccurrence, every_user: bool = False) -> Period:
        """The period at that position with its buyers as examples, or with every user."""
        ads, bought = self._population.periods[at], self._bought[at]
        priors, every = self.priors(ads.start_ms)
        values = np.unique(ads.items)
        values = values[values > 0]
        value_at = positions(values, ads.items)
        examples = []
        users = np.arange(len(every)) if every_user else np.unique(bought.users)
        starts, ends = (np.searchsorted(bought.users, users, side) for side in ("left", "right"))
        for user, start, end in zip(users.tolist(), starts, ends, strict=True):
            profile = np.concatenate(
                (self._population.profiles[user], self._population.contexts[user])
            )
            side = user_side(every[user], profile, self._vocabulary, cooccurrence)
            examples.append(
                Example(side, *_labels(ads, bought.items[start:end], bought.spent[start:end]))
            )
        return Period(
            items=ads.items,
            rows=self._vocabulary.rows(ads.items),
            values=values,
            value_at=np.where(value_at >= 0, value_at, len(values)),
            factors=item_factors(ads.items, cooccurrence),
            sources=cooccurrence.source,
            priors=priors,
            examples=examples,
        )


def _buyers(ads: AdPeriod, bought: Purchases) -> np.ndarray:
    """[A] users who bought what each ad sells."""
    items, counts = np.unique(bought.items, return_counts=True)
    # Position -1 reads the appended zero.
    return np.append(counts, 0).take(positions(items, ads.items[:, 0]))


def _labels(ads: AdPeriod, items: np.ndarray, spent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the ads of bought items (ascending), and what was spent on each."""
    at = positions(items, ads.items[:, 0])
    bought = np.flatnonzero(at >= 0)
    return bought, spent[at[bought]]


def batches(
    examples: list[Example], size: int, draw: np.random.Generator
) -> Iterator[list[Example]]:
    """The examples in a random order, so many at a time."""
    order = draw.permutation(len(examples))
    for start in range(0, len(order), size):
        yield [examples[at] for at in order[start : start + size]]
