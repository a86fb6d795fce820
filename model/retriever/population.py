"""Population: the training tables as one encoded history per user and one list of ads per period.

Owns the way from Arrow columns to arrays. Promises the encoding that serving uses. What a model
sees at a given moment is cut out of it in `periods`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import Encoder, History
from ..tables import TrainingTables
from .statistics import Window


@dataclass(frozen=True)
class AdPeriod:
    """The ads that were live in one week.

    Attributes:
        start_ms: first moment of the period; features are as of it.
        end_ms: first moment after it.
        items: [A, F] int64 raw ids, one row per ad.
    """

    start_ms: int
    end_ms: int
    items: np.ndarray


@dataclass(frozen=True)
class Population:
    """All users and all ad periods of the training tables.

    Attributes:
        histories: one per user with events, oldest event first.
        windows: the same histories by feature value.
        profiles: [users, U] int64 raw ids.
        contexts: [users, C] int64 raw ids, the most frequent value of each field in the events.
        periods: ad periods, oldest first.
    """

    histories: list[History]
    windows: list[Window]
    profiles: np.ndarray
    contexts: np.ndarray
    periods: list[AdPeriod]

    @classmethod
    def of(cls, tables: TrainingTables, encoder: Encoder) -> Population:
        """Encode checked tables."""
        user_ids = tables.events["user_id"].to_numpy()
        times = tables.events["time_ms"].to_numpy()
        order = np.lexsort((times, user_ids))
        user_ids = user_ids[order]
        events = History(
            times[order],
            encoder.actions_from_table(tables.events)[order],
            tables.events["value"].to_numpy().astype(np.float32)[order],
            encoder.items_from_table(tables.events)[order],
        )
        context = encoder.contexts_from_table(tables.events)[order]
        starts = np.flatnonzero(np.diff(user_ids, prepend=np.iinfo(np.int64).min))
        bounds = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(user_ids)], strict=True)]
        histories = [events[bound] for bound in bounds]
        return cls(
            histories,
            [Window.of(history.items) for history in histories],
            _profiles(tables, encoder, user_ids[starts]),
            np.array(
                [[_mode(column) for column in context[bound].T] for bound in bounds], np.int64
            ).reshape(len(bounds), context.shape[1]),
            _periods(tables, encoder),
        )

    def end_ms(self) -> int:
        """The end of the data: of its last event, or of the ad period in which that happened."""
        last_ms = max(int(history.time_ms[-1]) for history in self.histories)
        ends = [ads.end_ms for ads in self.periods if ads.start_ms <= last_ms]
        return max([last_ms + 1, *ends])

    def items(self) -> np.ndarray:
        """[N, F] int64 raw ids of everything seen, events and ads."""
        parts = [history.items for history in self.histories]
        return np.concatenate([*parts, *(period.items for period in self.periods)])

    def met(self, before_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Who met which item before a moment: [N] int64 user positions and [N] int64 raw ids."""
        users, items = [], []
        for user, history in enumerate(self.histories):
            seen = history.before(before_ms)
            users.append(np.full(len(seen), user))
            items.append(seen.items[:, 0])
        if not users:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(users), np.concatenate(items)


def _profiles(tables: TrainingTables, encoder: Encoder, user_ids: np.ndarray) -> np.ndarray:
    known = tables.users["user_id"].to_numpy()
    rows = encoder.profiles_from_table(tables.users)
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], user_ids)
    at = order[np.minimum(at, max(len(order) - 1, 0))] if len(order) else at
    out = np.zeros((len(user_ids), rows.shape[1]), np.int64)
    if len(known):
        found = known[at] == user_ids
        out[found] = rows[at[found]]
    return out


def _periods(tables: TrainingTables, encoder: Encoder) -> list[AdPeriod]:
    weeks = tables.ads["week"].to_numpy()
    starts, ends = tables.ads["start_ms"].to_numpy(), tables.ads["end_ms"].to_numpy()
    items = encoder.items_from_table(tables.ads)
    periods = []
    for week in np.unique(weeks):
        rows = weeks == week
        periods.append(
            AdPeriod(int(starts[rows].min()), int(ends[rows].max()), np.unique(items[rows], axis=0))
        )
    return sorted(periods, key=lambda period: period.start_ms)


def _mode(values: np.ndarray) -> int:
    present, counts = np.unique(values[values > 0], return_counts=True)
    return int(present[np.argmax(counts)]) if len(present) else 0
