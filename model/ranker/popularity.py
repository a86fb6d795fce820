"""Popularity: how often everybody bought a candidate's values, as of a time.

Owns one derived signal of the MoA configuration. Promises that training reads it strictly
before each row's time and that serving reads the rates as of the end of the training data, by
the same counting. Its weight against a user's own matches is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .matches import DAY_MS, Events, FieldIndex, Floats, Ints, positions_at

# Rates are per 100,000 events, so that the bins of the signal resolve a product bought ten
# times a quarter from one never bought.
PER_EVENTS = 100_000.0


class PopularityHistory:
    """Everybody's events in order of time, countable as of any time."""

    def __init__(
        self, time_ms: Ints, ids: Ints, fields: Sequence[str], days: Sequence[float]
    ) -> None:
        """Index the events.

        Args:
            time_ms: [L] int64.
            ids: [L, H] int64 raw ids in the order of ``fields``.
            fields: H names.
            days: windows before the reading's time.
        """
        order = np.argsort(time_ms, kind="stable")
        self._events = Events(np.zeros(len(order), np.int64), time_ms[order], ids[order])
        self._fields = tuple(fields)
        self._days = tuple(days)
        self._index = [FieldIndex(self._events, f) for f in range(len(self._fields))]

    def as_of(self, now_ms: Ints, ids: Ints) -> Floats:
        """Rates strictly before each row's time.

        Args:
            now_ms: [N] int64.
            ids: [N, H] int64 raw ids, columns as in the events.

        Returns:
            [N, H x windows] float32, events per 100,000; -1 where nothing was bought at all.
        """
        owners = np.zeros(len(now_ms), np.int64)
        end = positions_at(self._events, owners, now_ms)
        out = np.full((len(now_ms), len(self._fields) * len(self._days)), -1.0, np.float32)
        for w, days in enumerate(self._days):
            begin = positions_at(self._events, owners, now_ms - int(days * DAY_MS))
            total = end - begin
            for f, index in enumerate(self._index):
                bases = index.bases(owners, ids[:, f])
                count = index.rank(bases, end) - index.rank(bases, begin)
                rate = count * (PER_EVENTS / np.maximum(total, 1))
                out[:, f * len(self._days) + w] = np.where(total > 0, rate, -1.0)
        return out

    def freeze(self, now_ms: int) -> PopularityTable:
        """The rates of every value seen, as of one time."""
        ids, rates = [], []
        for f in range(len(self._fields)):
            column = self._events.ids[:, f]
            values = np.unique(column[column != 0])
            rows = np.zeros((len(values), len(self._fields)), np.int64)
            rows[:, f] = values
            at = f * len(self._days)
            ids.append(values)
            rates.append(
                self.as_of(np.full(len(values), now_ms), rows)[:, at : at + len(self._days)]
            )
        return PopularityTable(ids, rates, len(self._days))


class PopularityTable:
    """Rates per raw id, field by field, as a checkpoint holds them."""

    def __init__(self, ids: Sequence[Ints], rates: Sequence[Floats], windows: int) -> None:
        """Hold one sorted [n] int64 and one [n, windows] float32 array per field."""
        self._ids = list(ids)
        self._rates = list(rates)
        self._windows = windows

    def look_up(self, ids: Ints) -> Floats:
        """Rates of N candidates' values; 0 for a value never bought.

        Args:
            ids: [N, H] int64 raw ids, one column per field.

        Returns:
            [N, H x windows] float32; -1 where the table itself is empty.
        """
        out = np.zeros((len(ids), len(self._ids) * self._windows), np.float32)
        for f, (known, rates) in enumerate(zip(self._ids, self._rates, strict=True)):
            columns = out[:, f * self._windows : (f + 1) * self._windows]
            if not len(known):
                columns[:] = -1.0
                continue
            at = np.minimum(np.searchsorted(known, ids[:, f]), len(known) - 1)
            hit = known[at] == ids[:, f]
            columns[hit] = rates[at[hit]]
        return out

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The table for a checkpoint."""
        return {
            name: array
            for f in range(len(self._ids))
            for name, array in ((f"ids.{f}", self._ids[f]), (f"rates.{f}", self._rates[f]))
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, npt.NDArray[np.generic]], fields: int, windows: int
    ) -> PopularityTable:
        """The inverse of ``tensors``. Raises KeyError where a field is missing."""
        return cls(
            [tensors[f"ids.{f}"].astype(np.int64) for f in range(fields)],
            [tensors[f"rates.{f}"].astype(np.float32) for f in range(fields)],
            windows,
        )
