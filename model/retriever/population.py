"""Population: the training tables as one encoded history per user and one list of ads per period.

Owns the way from Arrow columns to arrays. Promises the encoding that serving uses. What a model
sees at a given moment is cut out of it in `periods`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import Encoder, History
from ..tables import TrainingTables
from .lookup import positions
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
class Purchases:
    """Distinct (user, item) pairs, by user.

    Attributes:
        users: [N] int64 users, ascending.
        items: [N] int64 raw ids of items.
        spent: [N] float32 what the user spent on the item.
    """

    users: np.ndarray
    items: np.ndarray
    spent: np.ndarray


@dataclass(frozen=True)
class Population:
    """All users and all ad periods of the training tables.

    Attributes:
        events: all events, by user and then by time.
        users: [N] int64 user 0..users-1 of each event.
        histories: the events of each user.
        windows: the same by feature value.
        profiles: [users, U] int64 raw ids.
        contexts: [users, C] int64 raw ids, the most frequent value of each field in the events.
        periods: ad periods, oldest first.
    """

    events: History
    users: np.ndarray
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
        first = np.diff(user_ids, prepend=np.iinfo(np.int64).min) != 0
        starts = np.flatnonzero(first)
        bounds = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(user_ids)], strict=True)]
        histories = [events[bound] for bound in bounds]
        habits = [_most_frequent(column) for bound in bounds for column in context[bound].T]
        return cls(
            events,
            np.cumsum(first) - 1,
            histories,
            [Window.of(history.items) for history in histories],
            _profiles(tables, encoder, user_ids[starts]),
            np.array(habits, np.int64).reshape(len(bounds), context.shape[1]),
            _periods(tables, encoder),
        )

    def end_ms(self) -> int:
        """The end of the data: of its last event, or of the ad period in which that happened."""
        last_ms = int(self.events.time_ms.max())
        ends = [ads.end_ms for ads in self.periods if ads.start_ms <= last_ms]
        return max([last_ms + 1, *ends])

    def values(self) -> np.ndarray:
        """[N, F] int64 raw ids of everything seen, events and ads."""
        return np.concatenate([self.events.items, *(ads.items for ads in self.periods)])

    def advertised(self, before_ms: int) -> np.ndarray:
        """Raw ids of the items of all ads that were live before a moment, ascending."""
        items = [ads.items[:, 0] for ads in self.periods if ads.start_ms < before_ms]
        return np.unique(np.concatenate(items)) if items else np.zeros(0, np.int64)

    def met(self, before_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Who met which item before a moment: [N] int64 users and [N] int64 raw ids."""
        rows = self.events.time_ms < before_ms
        return self.users[rows], self.events.items[rows, 0]

    def bought(self, ads: AdPeriod) -> Purchases:
        """What users bought in a period of the items that were advertised in it."""
        times, items = self.events.time_ms, self.events.items[:, 0]
        rows = np.flatnonzero((times >= ads.start_ms) & (times < ads.end_ms))
        advertised = np.unique(ads.items[:, 0])
        advertised = advertised[advertised > 0]
        item = positions(advertised, items[rows])
        rows, item = rows[item >= 0], item[item >= 0]
        width = len(advertised) + 1
        pairs, inverse = np.unique(self.users[rows] * width + item, return_inverse=True)
        spent = np.bincount(inverse, self.events.values[rows], len(pairs)).astype(np.float32)
        return Purchases(pairs // width, advertised[pairs % width], spent)


def _profiles(tables: TrainingTables, encoder: Encoder, user_ids: np.ndarray) -> np.ndarray:
    known, first = np.unique(tables.users["user_id"].to_numpy(), return_index=True)
    rows = encoder.profiles_from_table(tables.users)[first]
    at = positions(known, user_ids)
    out = np.zeros((len(user_ids), rows.shape[1]), np.int64)
    out[at >= 0] = rows[at[at >= 0]]
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


def _most_frequent(values: np.ndarray) -> int:
    present, counts = np.unique(values[values > 0], return_counts=True)
    return int(present[np.argmax(counts)]) if len(present) else 0
