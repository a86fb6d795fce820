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
# Days since the last match, and that age over the mean gap between matches.
RHYTHM = 2
# One mean gap becomes 8, so that the logarithmic bins resolve an item which is due from one
# that is overdue.
GAP_SCALE = 8.0


@dataclass(frozen=True)
class Events:
    """The histories of several owners, laid out one after the other, each oldest first.

    L events in all, H history fields.

    Attributes:
        owners: [L] int64, ascending.
        time_ms: [L] int64, ascending within an owner.
        ids: [L, H] int64 raw ids, 0 = missing.
    """

    owners: Ints
    time_ms: Ints
    ids: Ints


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

    def __init__(self, events: Events, field: int) -> None:
        column = events.ids[:, field]
        (positions,) = np.nonzero(column)
        self._values, codes = np.unique(column[positions], return_inverse=True)
        self._positions_per_key = len(column) + 1
        keys = events.owners[positions] * max(len(self._values), 1) + codes
        self._keys: Ints = np.sort(keys * self._positions_per_key + positions)
        self._time_ms: Ints = events.time_ms[self._keys % self._positions_per_key]

    def bases(self, owners: Ints, ids: Ints) -> Ints:
        """Key of each (owner, raw id) at position 0; -1 where no history holds the id. [N]."""
        if not len(self._values):
            return np.full(len(ids), -1, np.int64)
        codes = np.minimum(np.searchsorted(self._values, ids), len(self._values) - 1)
        known = self._values[codes] == ids
        keys = (owners * len(self._values) + codes) * self._positions_per_key
        return np.where(known, keys, -1)

    def rank(self, bases: Ints, positions: Ints) -> Ints:
        """Matches strictly before each position, in the index's own order. [N] int64."""
        ranks: Ints = np.searchsorted(self._keys, bases + positions)
        return np.where(bases < 0, 0, ranks)

    def rhythm(self, begin: Ints, end: Ints, now_ms: Ints) -> Floats:
        """Age of the newest match, and that age over the mean gap of matches ``begin:end``.

        Returns:
            [N, 2] float32: days, and gaps x ``GAP_SCALE``; -1 where there is none.
        """
        out = np.full((len(begin), RHYTHM), -1.0, np.float32)
        (once,) = np.nonzero(end > begin)
        newest = self._time_ms[end[once] - 1]
        age = (now_ms[once] - newest) / DAY_MS
        out[once, 0] = age
        span = (newest - self._time_ms[begin[once]]) / DAY_MS
        several = span > 0
        (begin, end) = (begin[once][several], end[once][several])
        out[once[several], 1] = age[several] * (end - begin - 1) / span[several] * GAP_SCALE
        return out


@dataclass(frozen=True)
class Matches:
    """What Hard Matching found for N rows.

    Attributes:
        counts: [N, P] int64, uncapped, one column per pair.
        rhythm: [N, 2 x distinct field pairs] float32, see ``FieldIndex.rhythm``.
    """

    counts: Ints
    rhythm: Floats


class HardMatcher:
    """Counts listed pairs over a fixed set of histories."""

    def __init__(
        self,
        events: Events,
        pairs: Sequence[MatchPair],
        history_fields: Sequence[str],
        item_fields: Sequence[str],
    ) -> None:
        """Sort each history field that a pair names.

        Args:
            events: ids in the order of ``history_fields``.
            pairs: the pairs, in the order of the counts' columns.
            history_fields, item_fields: names of the columns of events and of candidates.
        """
        self._events = events
        self._pairs = tuple(pairs)
        self._item_fields = tuple(item_fields)
        self._fields = tuple(dict.fromkeys((pair.history, pair.item) for pair in pairs))
        self._index = {
            name: FieldIndex(events, list(history_fields).index(name))
            for name in dict.fromkeys(pair.history for pair in pairs)
        }

    def match(self, rows: Prefixes, items: Ints) -> Matches:
        """Match each row's candidate against its own prefix.

        Args:
            rows: N prefixes.
            items: [N, F] int64 raw ids in the order of ``item_fields``.
        """
        counts = np.zeros((len(items), len(self._pairs)), np.int64)
        rhythm = np.zeros((len(items), RHYTHM * len(self._fields)), np.float32)
        starts = {
            days: self._window_start(rows, days)
            for days in dict.fromkeys(pair.window_days for pair in self._pairs)
        }
        for f, (history, item) in enumerate(self._fields):
            index = self._index[history]
            bases = index.bases(rows.owners, items[:, self._item_fields.index(item)])
            end = index.rank(bases, rows.last)
            for p, pair in enumerate(self._pairs):
                if (pair.history, pair.item) == (history, item):
                    counts[:, p] = end - index.rank(bases, starts[pair.window_days])
            begin = index.rank(bases, rows.first)
            rhythm[:, RHYTHM * f : RHYTHM * (f + 1)] = index.rhythm(begin, end, rows.now_ms)
        return Matches(counts, rhythm)

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
        [N, 1 + windows] float32; -1 days for an empty prefix.
    """
    out = np.full((len(rows.owners), 1 + len(days)), -1.0, np.float32)
    (some,) = np.nonzero(rows.last > rows.first)
    out[some, 0] = (rows.now_ms[some] - events.time_ms[rows.last[some] - 1]) / DAY_MS
    for w, window in enumerate(days):
        start = positions_at(events, rows.owners, rows.now_ms - int(window * DAY_MS))
        out[:, 1 + w] = rows.last - np.maximum(rows.first, np.minimum(start, rows.last))
    return out
