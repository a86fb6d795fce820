"""Hard matches: how often, and when, a history holds a candidate's own values.

Owns exact equality on raw ids between history fields and candidate fields (GESR's Hard
Matching Attention, arXiv 2511.21095), for one request or for a million training rows by the
same code. Promises that 0, the missing value, never matches and that nothing at or after a
row's own end is counted. What a count is worth is ``hma``'s to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .config import MatchPair

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

DAY_MS = 86_400_000
HABITS = ("recency", "age", "gap", "overdue", "occasions", "share", "spent", "paid")
"""What matches of a value say beside their count.

Days since the newest and since the oldest match; mean days between days with a match, and how
many such gaps the recency is; how many days had a match; the share of the history that matches;
and the value of all matches and of the newest.
"""
# Of a day: matches within hours are one occasion, and a gap of none would be overdue at once.
MIN_GAP_DAYS = 0.5
# Of values, in sums; and the largest that counts in one, so that 10 million of them fit int64.
PER_UNIT = 1e6
MAX_VALUE = 9e5


@dataclass(frozen=True)
class Events:
    """The histories of several owners, laid out one after the other, each oldest first.

    L events in all, H history fields.

    Attributes:
        owners: [L] int64, ascending.
        time_ms: [L] int64, ascending within an owner.
        ids: [L, H] int64 raw ids, 0 = missing.
        values: [L] float32.
    """

    owners: Ints
    time_ms: Ints
    ids: Ints
    values: Floats


@dataclass(frozen=True)
class Prefixes:
    """Where each row's history begins and ends in an ``Events``.

    N rows. Row n reads events ``first[n]:last[n]``, all of them ``owners[n]``'s own.

    Attributes:
        owners, first, last: [N] int64.
        now_ms: [N] int64, later than each of its events.
    """

    owners: Ints
    first: Ints
    last: Ints
    now_ms: Ints


class FieldIndex:
    """One history field, sorted by (owner, raw id, position), so that a count is two searches."""

    def __init__(self, events: Events, field: int, decay_days: Sequence[float] = ()) -> None:
        """Sort the field.

        Args:
            events: the histories.
            field: its column in ``events.ids``.
            decay_days: time constants of the decayed counts in ``habits``.
        """
        column = events.ids[:, field]
        (positions,) = np.nonzero(column)
        self._ids, codes = np.unique(column[positions], return_inverse=True)
        self._positions_per_key = len(column) + 1
        bases = events.owners[positions] * max(len(self._ids), 1) + codes
        self._keys: Ints = np.sort(bases * self._positions_per_key + positions)
        at = self._keys % self._positions_per_key
        self._time_ms: Ints = events.time_ms[at]
        self._values: Floats = events.values[at]
        self._totals = running_totals(self._values)
        self._decay_days = tuple(decay_days)
        if decay_days:
            fresh = np.diff(self._keys // self._positions_per_key, prepend=-1) != 0
            self._occasions = np.cumsum(fresh | (np.diff(self._time_ms // DAY_MS, prepend=-1) != 0))
            self._decayed = [decay(self._time_ms, fresh, days) for days in decay_days]

    def bases(self, owners: Ints, ids: Ints) -> Ints:
        """Key of each (owner, raw id) at position 0; -1 where no history holds the id. [N]."""
        if not len(self._ids):
            return np.full(len(ids), -1, np.int64)
        codes = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[codes] == ids
        keys = (owners * len(self._ids) + codes) * self._positions_per_key
        return np.where(known, keys, -1)

    def rank(self, bases: Ints, positions: Ints) -> Ints:
        """Matches strictly before each position, in the index's own order. [N] int64."""
        ranks: Ints = np.searchsorted(self._keys, bases + positions)
        return np.where(bases < 0, 0, ranks)

    def totals(self, begin: Ints, end: Ints) -> npt.NDArray[np.float64]:
        """Sum of the values of matches ``begin:end``. [N]."""
        totals: npt.NDArray[np.float64] = (self._totals[end] - self._totals[begin]) / PER_UNIT
        return totals

    def habits(self, begin: Ints, end: Ints, prefix: Ints, now_ms: Ints) -> Floats:
        """What matches ``begin:end`` say of a habit.

        Args:
            begin, end: [N] ranks.
            prefix: [N] events of the whole prefix.
            now_ms: [N], later than every match.

        Returns:
            [N, habits + decays] float32: the columns of ``HABITS``, then the decayed counts. NaN
            where there is no match, or no gap.
        """
        out = np.full((len(begin), len(HABITS) + len(self._decay_days)), np.nan, np.float32)
        (met,) = np.nonzero(end > begin)
        first, newest, now_ms = begin[met], end[met] - 1, now_ms[met]
        recency = (now_ms - self._time_ms[newest]) / DAY_MS
        age = (now_ms - self._time_ms[first]) / DAY_MS
        occasions = self._occasions[newest] - self._occasions[first] + 1
        gap = (age - recency) / np.where(occasions > 1, occasions - 1, np.nan)
        columns = (
            recency,
            age,
            gap,
            recency / np.maximum(gap, MIN_GAP_DAYS),
            occasions,
            (end - begin)[met] / prefix[met],
            self.totals(first, end[met]),
            self._values[newest],
        )
        out[met, : len(HABITS)] = np.stack(columns, 1)
        for d, (days, decayed) in enumerate(zip(self._decay_days, self._decayed, strict=True)):
            # Without what came before the prefix, which has decayed since.
            before = decayed[first] - 1.0
            since = np.exp((self._time_ms[first] - self._time_ms[newest]) / (days * DAY_MS))
            rest = decayed[newest] - before * since
            out[met, len(HABITS) + d] = rest * np.exp(-recency / days)
        return out


def running_totals(values: Floats) -> Ints:
    """Sums of the first 0, 1, .. L values, in parts of 1 / ``PER_UNIT``: [L + 1] int64.

    Whole numbers, so that a difference of two does not depend on what else was summed before: a
    row's totals are the same bits among a million others and alone.
    """
    parts = np.rint(np.clip(values, -MAX_VALUE, MAX_VALUE).astype(np.float64) * PER_UNIT)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(parts.astype(np.int64))])


def decay(time_ms: Ints, fresh: npt.NDArray[np.bool_], days: float) -> npt.NDArray[np.float64]:
    """Decayed count at each event, itself included: D_i = 1 + D_{i-1} exp(-(t_i - t_{i-1}) / days).

    By doubling: after step s each event has summed the 2^s events up to it. Nothing grows with
    the length of time, so that no event is ever lost beside others.

    Args:
        time_ms: [L] int64, ascending within a run.
        fresh: [L] bool, where a run begins.
        days: the time constant.
    """
    kept = np.exp(-np.diff(time_ms, prepend=time_ms[:1]) / (days * DAY_MS))
    kept[fresh] = 0.0
    total = np.ones(len(time_ms))
    step = 1
    while step < len(total) and kept.any():
        total[step:] += kept[step:] * total[:-step]
        # In one expression, so that the right side is read before any of it is written.
        kept[step:] = kept[step:] * kept[:-step]
        kept[:step] = 0.0
        step *= 2
    return total


@dataclass(frozen=True)
class Matches:
    """What Hard Matching found for N rows.

    Attributes:
        counts: [N, P] int64, uncapped, one column per pair.
        habits: [N, distinct field pairs x (habits + decays)] float32, see ``FieldIndex.habits``.
    """

    counts: Ints
    habits: Floats


class HardMatcher:
    """Counts listed pairs over a fixed set of histories."""

    def __init__(
        self,
        events: Events,
        pairs: Sequence[MatchPair],
        history_fields: Sequence[str],
        item_fields: Sequence[str],
        decay_days: Sequence[float],
    ) -> None:
        """Sort each history field that a pair names.

        Args:
            events: ids in the order of ``history_fields``.
            pairs: the pairs, in the order of the counts' columns.
            history_fields, item_fields: names of the columns of events and of candidates.
            decay_days: time constants of decayed counts.
        """
        self._events = events
        self._pairs = tuple(pairs)
        self._item_fields = tuple(item_fields)
        self._fields = tuple(dict.fromkeys((pair.history, pair.item) for pair in pairs))
        self._index = {
            name: FieldIndex(events, list(history_fields).index(name), decay_days)
            for name in dict.fromkeys(pair.history for pair in pairs)
        }

    def match(self, rows: Prefixes, items: Ints) -> Matches:
        """Match each row's candidate against its own prefix.

        Args:
            rows: N prefixes.
            items: [N, F] int64 raw ids in the order of ``item_fields``.
        """
        counts = np.zeros((len(items), len(self._pairs)), np.int64)
        habits = []
        starts = {
            days: self._window_start(rows, days)
            for days in dict.fromkeys(pair.window_days for pair in self._pairs)
        }
        for history, item in self._fields:
            index = self._index[history]
            bases = index.bases(rows.owners, items[:, self._item_fields.index(item)])
            end = index.rank(bases, rows.last)
            for p, pair in enumerate(self._pairs):
                if (pair.history, pair.item) == (history, item):
                    counts[:, p] = end - index.rank(bases, starts[pair.window_days])
            begin = index.rank(bases, rows.first)
            habits.append(index.habits(begin, end, rows.last - rows.first, rows.now_ms))
        return Matches(counts, np.concatenate(habits, 1))

    def _window_start(self, rows: Prefixes, days: float | None) -> Ints:
        """First position of each prefix within ``days`` of its now. [N] int64."""
        if days is None:
            return rows.first
        return np.maximum(
            rows.first, positions_at(self._events, rows.owners, rows.now_ms - int(days * DAY_MS))
        )


def positions_at(events: Events, owners: Ints, time_ms: Ints) -> Ints:
    """Position of each owner's first event at or after a time. [N] int64."""
    if not len(events.owners):
        return np.zeros(len(owners), np.int64)
    # Both keys fit int64: epoch milliseconds stay below 2^48 until the year 10889.
    stride = np.int64(1) << 48
    keys = events.owners * stride + events.time_ms
    return np.searchsorted(keys, owners * stride + np.clip(time_ms, 0, stride - 1))


def count_prefixes(events: Events, rows: Prefixes, days: Sequence[float]) -> Floats:
    """How busy each owner was: days since the newest event, and events per window.

    Returns:
        [N, 1 + windows] float32; NaN days for an empty prefix.
    """
    out = np.full((len(rows.owners), 1 + len(days)), np.nan, np.float32)
    (some,) = np.nonzero(rows.last > rows.first)
    out[some, 0] = (rows.now_ms[some] - events.time_ms[rows.last[some] - 1]) / DAY_MS
    for w, window in enumerate(days):
        start = positions_at(events, rows.owners, rows.now_ms - int(window * DAY_MS))
        out[:, 1 + w] = rows.last - np.maximum(rows.first, np.minimum(start, rows.last))
    return out
