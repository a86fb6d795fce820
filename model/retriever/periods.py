"""Periods: what the network sees of one week of ads and of the users who bought among them.

Owns the training examples. Promises that nothing in an example but its labels is younger than the
period's start, and that every number comes from the functions that serving calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..features import History
from .cooccurrence import Cooccurrence
from .population import AdPeriod, Population
from .priors import PriorCounts
from .statistics import DECAY_DAYS, Statistics, Window, summarise
from .vocabulary import Vocabulary

# A quarter: how soon the reception of earlier ads is forgotten.
RESPONSE_WEEKS = 13.0
_WEEK_MS = 7 * 86_400_000
_POOL_COLUMN = len(DECAY_DAYS) - 1


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
        summary: [2] float32 log number of events and log days since the last.
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
    summary: np.ndarray


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
        priors: [V, N] float32 priors as of the period's start.
        examples: users who bought any of the ads.
    """

    items: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    value_at: np.ndarray
    factors: np.ndarray
    priors: np.ndarray
    examples: list[Example]


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
    columns = statistics.columns
    return UserSide(
        ids=statistics.ids,
        fields=statistics.fields,
        rows=vocabulary.find(statistics.ids, statistics.fields),
        columns=columns,
        weights=columns[:, _POOL_COLUMN],
        profile=profile,
        factors=cooccurrence.source[met].sum(axis=0),
        pair_ids=pair_ids,
        pair_weights=pair_weights,
        summary=columns[0, -2:] if len(columns) else np.zeros(2, np.float32),
    )


def item_factors(items: np.ndarray, cooccurrence: Cooccurrence) -> np.ndarray:
    """[A, R] float32 target factors of ads by their item; zero for an item without any."""
    at = cooccurrence.positions(items[:, 0])
    known = (
        cooccurrence.target[at]
        if len(cooccurrence.ids)
        else np.zeros((len(items), cooccurrence.target.shape[1]), np.float32)
    )
    return np.where((at >= 0)[:, None], known, np.float32(0))


def window_before(history: History, window: Window, now_ms: int, max_events: int) -> Statistics:
    """Statistics of the newest events strictly before a moment."""
    end = int(np.searchsorted(history.time_ms, now_ms, side="left"))
    return summarise(window.part(max(end - max_events, 0), end), history, now_ms)


@dataclass(frozen=True)
class _Reception:
    """How a period's ads were received: [A, F] rows, [A] users who bought each, users who did."""

    rows: np.ndarray
    buyers: np.ndarray
    users: int


class PeriodBuilder:
    """Cuts periods out of a population."""

    def __init__(self, population: Population, vocabulary: Vocabulary, max_events: int) -> None:
        self._population = population
        self._vocabulary = vocabulary
        self._max_events = max_events
        self._receptions = [self._receive(ads) for ads in population.periods]

    def priors(self, now_ms: int) -> tuple[np.ndarray, list[Statistics]]:
        """Priors as of a moment, and the statistics of every user that they were made of."""
        counts = PriorCounts(self._vocabulary)
        every = []
        for history, window in zip(
            self._population.histories, self._population.windows, strict=True
        ):
            statistics = window_before(history, window, now_ms, self._max_events)
            counts.add_user(statistics)
            every.append(statistics)
        for ads, reception in zip(self._population.periods, self._receptions, strict=True):
            if ads.end_ms <= now_ms:
                weeks = (now_ms - ads.end_ms) / _WEEK_MS
                weight = float(np.exp(-weeks / RESPONSE_WEEKS))
                counts.add_ads(reception.rows, reception.buyers, weight)
        return counts.priors(), every

    def buyers(self, at: int) -> int:
        """Users who bought an ad of the period at that position: its number of examples."""
        return self._receptions[at].users

    def build(self, at: int, cooccurrence: Cooccurrence) -> Period:
        """The period at that position with all its examples."""
        ads = self._population.periods[at]
        priors, every = self.priors(ads.start_ms)
        values, value_at = np.unique(ads.items, return_inverse=True)
        value_at = value_at.reshape(ads.items.shape)
        if len(values) and values[0] == 0:
            values, value_at = values[1:], value_at - 1
            value_at[value_at < 0] = len(values)
        examples = []
        for user, statistics in enumerate(every):
            bought, spent = self._bought(user, ads)
            if len(bought):
                profile = np.concatenate(
                    (self._population.profiles[user], self._population.contexts[user])
                )
                side = user_side(statistics, profile, self._vocabulary, cooccurrence)
                examples.append(Example(side, bought, spent))
        return Period(
            items=ads.items,
            rows=self._vocabulary.rows(ads.items),
            values=values,
            value_at=value_at,
            factors=item_factors(ads.items, cooccurrence),
            priors=priors,
            examples=examples,
        )

    def _bought(self, user: int, ads: AdPeriod) -> tuple[np.ndarray, np.ndarray]:
        history = self._population.histories[user]
        start, end = np.searchsorted(history.time_ms, [ads.start_ms, ads.end_ms])
        items, inverse = np.unique(history.items[start:end, 0], return_inverse=True)
        spent = np.bincount(inverse, history.values[start:end], len(items)).astype(np.float32)
        if not len(items):
            return inverse, spent
        at = np.minimum(np.searchsorted(items, ads.items[:, 0]), len(items) - 1)
        bought = np.flatnonzero((items[at] == ads.items[:, 0]) & (ads.items[:, 0] > 0))
        return bought, spent[at[bought]]

    def _receive(self, ads: AdPeriod) -> _Reception:
        buyers, users = np.zeros(len(ads.items)), 0
        for user in range(len(self._population.histories)):
            bought, _ = self._bought(user, ads)
            buyers[bought] += 1
            users += len(bought) > 0
        return _Reception(self._vocabulary.rows(ads.items), buyers, users)


def batches(
    examples: list[Example], size: int, draw: np.random.Generator
) -> Iterator[list[Example]]:
    """The examples in a random order, so many at a time."""
    order = draw.permutation(len(examples))
    for start in range(0, len(order), size):
        yield [examples[at] for at in order[start : start + size]]


def _listed_pairs(met: np.ndarray, pairs: Cooccurrence) -> tuple[np.ndarray, np.ndarray]:
    starts, ends = pairs.pair_offsets[met], pairs.pair_offsets[met + 1]
    lengths = ends - starts
    # Positions starts[i] .. ends[i] - 1 of every i in one array.
    shifts = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    at = np.arange(int(lengths.sum())) + shifts
    sums = np.bincount(pairs.pair_targets[at], pairs.pair_weights[at], len(pairs.ids))
    reached = np.flatnonzero(sums)
    return pairs.ids[reached], sums[reached].astype(np.float32)
