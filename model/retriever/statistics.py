"""Statistics: how often, how recently and how regularly a user met each feature value.

Owns the numbers behind HitMatch's user part. Promises that training and serving compute them with
the same function from the same window of events, strictly before the request. Which weight a
number gets is learned in `hitmatch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import History

DAY_MS = 86_400_000
# A month, a quarter and a year: short habits, long habits and everything.
DECAY_DAYS = (30.0, 90.0, 365.0)

COLUMNS = (
    *(f"count_{int(days)}d" for days in DECAY_DAYS),
    "count",
    "occasions",
    "value",
    "recency",
    "age",
    "gap",
    "overdue",
    "repeated",
    "share",
    "user_count",
    "user_recency",
)
"""Names of the statistics, in the order of their columns."""

USER_COLUMNS = ("user_count", "user_recency")
"""Those, the last ones, that say something about the user and are the same for every value."""


@dataclass(frozen=True)
class Window:
    """A user's events as one list of (value, event) pairs, sorted by value and then by time.

    Attributes:
        ids: [E] int64 raw ids, ascending; missing values are left out.
        events: [E] int64 position of the pair's event in the history, ascending within an id.
        fields: [E] int64 item field of the pair.
    """

    ids: np.ndarray
    events: np.ndarray
    fields: np.ndarray

    @classmethod
    def of(cls, items: np.ndarray) -> Window:
        """Sort [L, F] int64 raw ids, oldest event first."""
        flat = items.T.reshape(-1)
        order = np.argsort(flat, kind="stable")
        order = order[np.searchsorted(flat[order], 1) :]
        length = max(len(items), 1)
        return cls(flat[order], order % length, order // length)

    def part(self, start: int, end: int) -> Window:
        """The pairs of the events start..end-1."""
        kept = np.flatnonzero((self.events >= start) & (self.events < end))
        return Window(self.ids[kept], self.events[kept], self.fields[kept])


@dataclass(frozen=True)
class Statistics:
    """Statistics of every value that a user met; K values.

    Attributes:
        ids: [K] int64 raw ids, ascending.
        fields: [K] int64 item field of each.
        columns: [K, len(COLUMNS)] float32.
    """

    ids: np.ndarray
    fields: np.ndarray
    columns: np.ndarray


def summarise(window: Window, history: History, now_ms: int) -> Statistics:
    """Count, decay and date every value of a window as of `now_ms`.

    Counts and money enter as log1p, times as log1p of days. `gap` is the user's mean time between
    days with the value (0 before the second), `overdue` the log of recency over gap.

    Args:
        window: pairs of events strictly before now_ms.
        history: the events that the window's positions mean.
        now_ms: epoch ms.
    """
    ids = window.ids
    if not len(ids):
        return Statistics(ids, window.fields, np.zeros((0, len(COLUMNS)), np.float32))
    new = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
    last = np.concatenate((new[1:], [len(ids)])) - 1
    counts = (last - new + 1).astype(np.float32)

    ages = ((now_ms - history.time_ms) / DAY_MS).astype(np.float32)
    age = ages[window.events]
    day = (history.time_ms // DAY_MS)[window.events]
    another_day = np.concatenate(([True], day[1:] != day[:-1]))
    another_day[new] = True
    occasions = np.add.reduceat(another_day.astype(np.float32), new)
    value = np.add.reduceat(history.values[window.events], new)

    columns = np.empty((len(new), len(COLUMNS)), np.float32)
    for at, days in enumerate(DECAY_DAYS):
        columns[:, at] = np.add.reduceat(np.exp(ages / -days)[window.events], new)
    recency, first = age[last], age[new]
    gap = (first - recency) / np.maximum(occasions - 1, 1)
    at = len(DECAY_DAYS)
    columns[:, at] = counts
    columns[:, at + 1] = occasions
    columns[:, at + 2] = np.maximum(value, 0)
    columns[:, at + 3] = recency
    columns[:, at + 4] = first
    columns[:, at + 5] = gap
    columns[:, : at + 6] = np.log1p(columns[:, : at + 6])
    columns[:, at + 6] = np.where(occasions > 1, np.log((recency + 1) / (gap + 1)), 0)
    columns[:, at + 7] = occasions > 1
    newest, oldest = int(window.events.max()), int(window.events.min())
    columns[:, at + 8] = np.log(counts / (newest - oldest + 1) + 1e-4)
    columns[:, at + 9] = np.log1p(newest - oldest + 1)
    columns[:, at + 10] = np.log1p(ages[newest])
    return Statistics(ids[new], window.fields[new], columns)
