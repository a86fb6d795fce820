"""Training examples: tables become histories and rows, each as of its own time.

Owns the way from Arrow tables to arrays. Promises that a visit's rows read only events strictly
before the visit's time, by the functions that serve live requests. ``batches`` makes model
inputs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..features import Encoder
from ..tables import TrainingTables
from .config import RankerConfig
from .matches import Events, Floats, HardMatcher, Ints, Prefixes, positions_at
from .popularity import PopularityHistory, PopularityTable
from .signals import derive

LABELS = ("engage", "consume")


@dataclass(frozen=True)
class Histories:
    """All users' events, oldest first per user: L events.

    Attributes:
        events: owners are rows of ``users``; ids in the order of the history fields.
        actions: [L] int64.
        values: [L] float32.
        bounds: [users + 1] int64; user u owns events bounds[u]:bounds[u + 1].
        users: [users] int64, ascending user ids.
        profiles: [users, U] int64 raw ids.
    """

    events: Events
    actions: Ints
    values: Floats
    bounds: Ints
    users: Ints
    profiles: Ints

    @classmethod
    def from_tables(
        cls, tables: TrainingTables, encoder: Encoder, fields: Sequence[str]
    ) -> Histories:
        """Sort the events by user and time; users without a profile row have an unknown one."""
        user_ids = tables.events["user_id"].to_numpy()
        time_ms = tables.events["time_ms"].to_numpy()
        order = np.lexsort((time_ms, user_ids))
        known = tables.users["user_id"].to_numpy()
        visitors = tables.visits["user_id"].to_numpy()
        users = np.unique(np.concatenate([user_ids, known, visitors]))
        profiles = np.zeros((len(users), len(encoder.schema.profile_fields)), np.int64)
        profiles[np.searchsorted(users, known)] = encoder.profiles_from_table(tables.users)
        owners = np.searchsorted(users, user_ids[order])
        columns = [encoder.schema.item_fields.index(name) for name in fields]
        return cls(
            events=Events(
                owners, time_ms[order], encoder.items_from_table(tables.events)[order][:, columns]
            ),
            actions=encoder.actions_from_table(tables.events)[order].astype(np.int64),
            values=tables.events["value"].to_numpy()[order].astype(np.float32),
            bounds=np.searchsorted(owners, np.arange(len(users) + 1)),
            users=users,
            profiles=profiles,
        )

    def prefixes(self, owners: Ints, now_ms: Ints, max_events: int) -> Prefixes:
        """The newest events strictly before each time, at most ``max_events``. [N] each."""
        last = positions_at(self.events, owners, now_ms)
        first = np.maximum(self.bounds[owners], last - max_events)
        return Prefixes(owners, np.minimum(first, last), last, now_ms)


@dataclass(frozen=True)
class Rows:
    """N (visit, ad) rows, sorted by user, time and visit.

    Attributes:
        prefixes: what each row may read.
        visits: [N] int64 visit ids.
        items: [N, F], contexts: [N, C] int64 raw ids.
        counts: [N, P] int64, signals: [N, R] float32.
        labels: [N, 2] float32.
    """

    prefixes: Prefixes
    visits: Ints
    items: Ints
    contexts: Ints
    counts: Ints
    signals: Floats
    labels: Floats

    def __len__(self) -> int:
        return len(self.visits)


@dataclass(frozen=True)
class Examples:
    """Histories, the rows that learn from them, and the popularity behind the rows' signals."""

    histories: Histories
    rows: Rows
    popularity: PopularityTable

    @classmethod
    def from_tables(
        cls, tables: TrainingTables, encoder: Encoder, config: RankerConfig
    ) -> Examples:
        """Encode tables and derive every row's signals as of its visit's time."""
        moa = config.moa
        histories = Histories.from_tables(tables, encoder, moa.history)
        visits = tables.visits
        owners = np.searchsorted(histories.users, visits["user_id"].to_numpy())
        now_ms = visits["time_ms"].to_numpy()
        visit_ids = visits["visit_id"].to_numpy()
        order = np.lexsort((visit_ids, now_ms, owners))
        owners, now_ms = owners[order], now_ms[order]
        items = encoder.items_from_table(visits)[order]

        popular = [moa.history.index(name) for name in moa.popular]
        everybody = PopularityHistory(
            histories.events.time_ms,
            histories.events.ids[:, popular],
            moa.popular,
            moa.popular_days,
        )
        columns = [moa.item.index(name) for name in moa.popular]
        prefixes = histories.prefixes(owners, now_ms, moa.max_events)
        matcher = HardMatcher(histories.events, moa.pairs, moa.history, moa.item)
        counts, signals = derive(
            matcher,
            histories.events,
            prefixes,
            items,
            everybody.as_of(now_ms, items[:, columns]),
            moa,
        )
        rows = Rows(
            prefixes=prefixes,
            visits=visit_ids[order],
            items=items,
            contexts=encoder.contexts_from_table(visits)[order],
            counts=counts,
            signals=signals,
            labels=np.stack([visits[name].to_numpy()[order] for name in LABELS], 1).astype(
                np.float32
            ),
        )
        end_ms = int(histories.events.time_ms.max(initial=0)) + 1
        return cls(histories, rows, everybody.freeze(end_ms))
