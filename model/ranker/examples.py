"""Training examples: tables become histories and rows, each as of its own time.

Owns the way from Arrow tables to arrays. Promises that a visit's rows read only events strictly
before the visit's time, by the functions that serve live requests. ``batches`` makes model
inputs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features import Encoder
from ..tables import RETRIEVAL, TrainingTables
from .affinity import Affinity, AffinityHistory
from .config import MoaConfig, RankerConfig
from .matches import Events, Floats, HardMatcher, Ints, Prefixes, positions_at
from .population import PopulationHistory, Records
from .signals import Statistics, columns, crossed, derive

LABELS = ("engage", "consume")
# Showings at the overall rate that a value's own response is drawn to.
RESPONSE_PRIOR = 20.0


@dataclass(frozen=True)
class Histories:
    """All users' events, oldest first per user: L events.

    Attributes:
        events: owners are rows of ``users``; ids in the order of the history fields.
        actions: [L] int64.
        bounds: [users + 1] int64; user u owns events bounds[u]:bounds[u + 1].
        users: [users] int64, ascending user ids.
        profiles: [users, U] int64 raw ids.
    """

    events: Events
    actions: Ints
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
        among = [encoder.schema.item_fields.index(name) for name in fields]
        return cls(
            events=Events(
                owners,
                time_ms[order],
                encoder.items_from_table(tables.events)[order][:, among],
                tables.events["value"].to_numpy()[order].astype(np.float32),
            ),
            actions=encoder.actions_from_table(tables.events)[order].astype(np.int64),
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
    """Histories, the rows that learn from them, and the statistics behind the rows' signals.

    Attributes:
        histories, rows: of the tables.
        everybody: statistics as of any time.
    """

    histories: Histories
    rows: Rows
    everybody: Everybody

    @classmethod
    def from_tables(
        cls,
        tables: TrainingTables,
        encoder: Encoder,
        config: RankerConfig,
        kept: npt.NDArray[np.bool_] | None = None,
        statistics: Statistics | None = None,
    ) -> Examples:
        """Encode tables and derive rows' signals as of their visits' times.

        Args:
            tables: all visits are evidence of how ads are received.
            encoder: of the schema.
            config: names the sources and signals.
            kept: [visit rows] bool, the visits that become rows; None is all.
            statistics: what every row reads of everybody, in place of what was known at its own
                time: a checkpoint's, as it serves.
        """
        moa = config.moa
        histories = Histories.from_tables(tables, encoder, moa.history)
        everybody = Everybody.from_tables(tables, encoder, histories, moa)
        visits = tables.visits if kept is None else tables.visits.filter(pa.array(kept))
        owners = np.searchsorted(histories.users, visits["user_id"].to_numpy())
        now_ms = visits["time_ms"].to_numpy()
        visit_ids = visits["visit_id"].to_numpy()
        order = np.lexsort((visit_ids, now_ms, owners))
        owners, now_ms = owners[order], now_ms[order]
        items = encoder.items_from_table(visits)[order]
        contexts = encoder.contexts_from_table(visits)[order]

        prefixes = histories.prefixes(owners, now_ms, moa.max_events)
        counts, signals = derive(
            HardMatcher(histories.events, moa.pairs, moa.history, moa.item, moa.decay_days),
            histories.events,
            prefixes,
            items,
            (
                statistics.population(items, contexts, moa)
                if statistics
                else everybody.population(now_ms, items, contexts)
            ),
            everybody.affinities(prefixes, items, statistics.affinity if statistics else None),
            _retrieval(visits, order),
            moa,
        )
        rows = Rows(
            prefixes=prefixes,
            visits=visit_ids[order],
            items=items,
            contexts=contexts,
            counts=counts,
            signals=signals,
            labels=np.stack([visits[name].to_numpy()[order] for name in LABELS], 1).astype(
                np.float32
            ),
        )
        return cls(histories, rows, everybody)


def _retrieval(visits: pa.Table, order: Ints) -> Floats | None:
    """The scores that the visits' ads were retrieved with; None where they were not."""
    if RETRIEVAL not in visits.column_names:
        return None
    scores: Floats = visits[RETRIEVAL].to_numpy()[order].astype(np.float32)
    return scores


class Everybody:
    """The statistics of all users together, as of any time of the tables."""

    def __init__(
        self,
        popular: Records,
        answered: Records,
        answered_in: Records,
        affinity: AffinityHistory | None,
        moa: MoaConfig,
    ) -> None:
        """Index purchases and visits; ids in the order of the fields that ``moa`` names."""
        self._popular = PopulationHistory(popular, moa.popular_days)
        self._answered = PopulationHistory(answered, moa.answered_days)
        self._answered_in = PopulationHistory(answered_in, moa.answered_in_days)
        self._affinity = affinity
        self._moa = moa
        self._end_ms = int(popular.time_ms.max(initial=0)) + 1
        self._columns = columns(moa.popular, moa), columns(moa.answered, moa)

    @classmethod
    def from_tables(
        cls, tables: TrainingTables, encoder: Encoder, histories: Histories, moa: MoaConfig
    ) -> Everybody:
        """Read what the configuration names."""
        events, visits = histories.events, tables.visits
        items = encoder.items_from_table(visits)
        popular = [moa.history.index(name) for name in moa.popular]
        affinity = None
        if moa.affinity is not None:
            targets = np.unique(items[:, 0])
            # The schema's first item field names the item itself.
            item = moa.history.index(encoder.schema.item_fields[0])
            affinity = AffinityHistory(events, item, targets, moa.affinity)

        def shown(ids: Ints) -> Records:
            engaged = visits["engage"].to_numpy().astype(np.float32)
            return Records(visits["time_ms"].to_numpy(), ids, engaged, RESPONSE_PRIOR)

        return cls(
            Records(events.time_ms, events.ids[:, popular], events.values),
            shown(items[:, columns(moa.answered, moa)]),
            shown(crossed(items, encoder.contexts_from_table(visits), moa)),
            affinity,
            moa,
        )

    def population(self, now_ms: Ints, items: Ints, contexts: Ints) -> Floats:
        """[N, ..] float32 strictly before each time, of [N, F] items in [N, C] contexts."""
        popular, answered = self._columns
        return np.concatenate(
            [
                self._popular.as_of(now_ms, items[:, popular]),
                self._answered.as_of(now_ms, items[:, answered]),
                self._answered_in.as_of(now_ms, crossed(items, contexts, self._moa)),
            ],
            1,
        )

    def affinities(self, prefixes: Prefixes, items: Ints, table: Affinity | None) -> Floats:
        """[N, 0 or 1] float32 as of each row's time, or all from one table."""
        if self._affinity is None:
            return np.zeros((len(items), 0), np.float32)
        return self._affinity.as_of(prefixes, items[:, 0], table)

    def freeze(self) -> Statistics:
        """As of the end of the events."""
        return Statistics(
            self._popular.freeze(self._end_ms),
            self._answered.freeze(self._end_ms),
            self._answered_in.freeze(self._end_ms),
            self._affinity.before(self._end_ms) if self._affinity else None,
        )
