"""Population: what everybody did with a candidate's values, as of a time.

Owns two derived signals of the MoA configuration by the same counting: how often a value is
bought and for how much, and how often it is shown and how often that ends in engagement.
Promises that training reads them strictly before each row's time, and that serving reads them as
of the end of the training data. Their weight against a user's own matches is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .matches import (
    DAY_MS,
    PER_UNIT,
    Events,
    FieldIndex,
    Floats,
    Ints,
    positions_at,
    running_totals,
)

# Per window: the share of all records that carry the value, and the mean value of those.
COLUMNS = 2


@dataclass(frozen=True)
class Records:
    """Everybody's records of one kind, in any order.

    Attributes:
        time_ms: [L] int64.
        ids: [L, H] int64 raw ids.
        values: [L] float32: money, or 1 for engagement.
        prior: records of the overall mean value that each mean is drawn to; a value shown twice
            has no rate of its own yet. With 0 a mean without a record is NaN.
    """

    time_ms: Ints
    ids: Ints
    values: Floats
    prior: float = 0.0


class PopulationHistory:
    """Records in order of time, countable as of any time."""

    def __init__(self, records: Records, days: Sequence[float]) -> None:
        """Index the records; ``days`` are windows before a reading's time."""
        order = np.argsort(records.time_ms, kind="stable")
        owners = np.zeros(len(order), np.int64)
        self._events = Events(
            owners, records.time_ms[order], records.ids[order], records.values[order]
        )
        self._days = tuple(days)
        self._prior = records.prior
        self._totals = running_totals(self._events.values)
        self._index = [FieldIndex(self._events, f) for f in range(records.ids.shape[1])]

    def as_of(self, now_ms: Ints, ids: Ints) -> Floats:
        """Shares and means strictly before each row's time.

        Args:
            now_ms: [N] int64.
            ids: [N, H] int64 raw ids, columns as in the records.

        Returns:
            [N, H x windows x COLUMNS] float32; NaN for the missing value.
        """
        # Many rows ask for one value at one time.
        times, when = distinct(now_ms)
        columns = []
        for f in range(len(self._index)):
            values, which = distinct(ids[:, f])
            asked, row = distinct(which * len(times) + when)
            value, time = np.divmod(asked, max(len(times), 1))
            columns.append(self._column(f, times[time], values[value])[row])
        return _joined(ids, columns)

    def freeze(self, now_ms: int) -> PopulationTable:
        """What every value ever seen reads as of one time."""
        ids, columns = [], []
        for f in range(len(self._index)):
            # 0 stands for every value never seen: nothing matches it.
            known = np.unique(np.append(self._events.ids[:, f], 0))
            ids.append(known)
            columns.append(self._column(f, np.full(len(known), now_ms), known))
        return PopulationTable(ids, columns)

    def _column(self, field: int, now_ms: Ints, ids: Ints) -> Floats:
        """[N, windows x COLUMNS] of one field's values."""
        owners = np.zeros(len(now_ms), np.int64)
        index = self._index[field]
        bases = index.bases(owners, ids)
        end = positions_at(self._events, owners, now_ms)
        last = index.rank(bases, end)
        out = np.empty((len(now_ms), len(self._days), COLUMNS), np.float32)
        with np.errstate(invalid="ignore"):
            for w, days in enumerate(self._days):
                begin = positions_at(self._events, owners, now_ms - int(days * DAY_MS))
                first = index.rank(bases, begin)
                count, every = last - first, end - begin
                overall = (self._totals[end] - self._totals[begin]) / (every * PER_UNIT)
                out[:, w, 0] = count / np.maximum(every, 1)
                prior = self._prior * overall if self._prior else 0.0
                total = index.totals(first, last) + prior
                out[:, w, 1] = total / (count + self._prior)
        return out.reshape(len(now_ms), -1)


class PopulationTable:
    """Columns per raw id, field by field, as a checkpoint holds them."""

    def __init__(self, ids: Sequence[Ints], columns: Sequence[Floats]) -> None:
        """Hold one ascending [n] int64, the first 0, and one [n, C] float32 array per field."""
        self._ids = list(ids)
        self._columns = list(columns)

    def look_up(self, ids: Ints) -> Floats:
        """Columns of N candidates' values; those of 0 for a value never seen.

        Args:
            ids: [N, H] int64 raw ids, one column per field.

        Returns:
            [N, H x C] float32; NaN for the missing value.
        """
        out = []
        for f, (known, columns) in enumerate(zip(self._ids, self._columns, strict=True)):
            at = np.minimum(np.searchsorted(known, ids[:, f]), len(known) - 1)
            out.append(columns[np.where(known[at] == ids[:, f], at, 0)])
        return _joined(ids, out)

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The table for a checkpoint."""
        return {
            name: array
            for f in range(len(self._ids))
            for name, array in ((f"ids.{f}", self._ids[f]), (f"columns.{f}", self._columns[f]))
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, npt.NDArray[np.generic]], fields: int
    ) -> PopulationTable:
        """The inverse of ``tensors``. Raises KeyError where a field is missing."""
        return cls(
            [tensors[f"ids.{f}"].astype(np.int64) for f in range(fields)],
            [tensors[f"columns.{f}"].astype(np.float32) for f in range(fields)],
        )


def distinct(values: Ints) -> tuple[Ints, Ints]:
    """The distinct ones of N values in order of appearance, and which of them each is: [N]."""
    # By hashing, in a tenth of the time that sorting takes.
    encoded = pa.array(values).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy().astype(np.int64)


def _joined(ids: Ints, columns: Sequence[Floats]) -> Floats:
    """Columns of each field side by side, NaN where the field is missing."""
    parts = [np.where(ids[:, f, None] == 0, np.float32("nan"), c) for f, c in enumerate(columns)]
    return np.concatenate([np.zeros((len(ids), 0), np.float32), *parts], 1)
