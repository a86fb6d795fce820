"""Periods: what the network sees of one week of ads and of the users who bought among them.

Owns the training examples. Promises that nothing in an example but its labels is younger than the
period's start, and that every number comes from the functions that serving calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..features import History
from .cooccurrence import Cooccurrence
from .population import AdPeriod, Population, Purchases
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
            window_before(history, window, now_ms, self._max_events)
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

    def build(self, at: int, cooccurrence: Cooccurrence) -> Period:
        """The period at that position with all its examples."""
        ads, bought = self._population.periods[at], self._bought[at]
        priors, every = self.priors(ads.start_ms)
        values, value_at = np.unique(ads.items, return_inverse=True)
        value_at = value_at.reshape(ads.items.shape)
        if len(values) and values[0] == 0:
            values, value_at = values[1:], value_at - 1
            value_at[value_at < 0] = len(values)
        examples = []
        for user, start, end in _runs(bought.users):
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
            value_at=value_at,
            factors=item_factors(ads.items, cooccurrence),
            priors=priors,
            examples=examples,
        )


def _buyers(ads: AdPeriod, bought: Purchases) -> np.ndarray:
    """[A] users who bought what each ad sells."""
    items, counts = np.unique(bought.items, return_counts=True)
    at, found = _lookup(items, ads.items[:, 0])
    buyers = np.zeros(len(ads.items))
    buyers[found] = counts[at[found]]
    return buyers


def _labels(ads: AdPeriod, items: np.ndarray, spent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the ads of bought items (ascending), and what was spent on each."""
    at, found = _lookup(items, ads.items[:, 0])
    bought = np.flatnonzero(found)
    return bought, spent[at[bought]]


def _lookup(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of wanted values, and which of them are there at all."""
    if not len(ascending):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return at, ascending[at] == wanted


def _runs(ascending: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Each distinct value (>= 0) with the start and end of its run."""
    bounds = np.flatnonzero(np.diff(ascending, prepend=-1, append=-1)).tolist()
    for start, end in pairwise(bounds):
        yield int(ascending[start]), start, end


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
