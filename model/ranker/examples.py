"""Training examples: tables become histories, visits and rows, each as of its own time.

Owns the way from Arrow tables to model inputs. Promises that a visit's rows read only events
strictly before the visit's time, by the functions that serve live requests, and that a visit
batched with others sees exactly the events that it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..features import Encoder
from ..tables import TrainingTables
from .config import RankerConfig
from .inputs import Inputs
from .matches import Events, Floats, HardMatcher, Ints, Prefixes, positions_at
from .popularity import PopularityHistory, PopularityTable
from .signals import derive

LABELS = ("engage", "consume")
# Rows of one visit that are scored together: two positives with their negatives fit, and a
# long visit becomes several groups, so that little of a batch is padding.
GROUP = 32
# Events of one history segment, beside the context before it. Longer ones repeat less context
# but pad short histories more.
SEGMENT = 256


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


def sample_negatives(
    tables: TrainingTables, kept: npt.NDArray[np.bool_], per_positive: int, seed: int
) -> TrainingTables:
    """Thin out the visits' negatives to about ``per_positive`` for each positive, uniformly.

    Args:
        tables: whose visits to thin out.
        kept: [visit rows] bool, rows that stay in any case.
        per_positive: negatives for each positive among the other rows.
        seed: of the draw.
    """
    engaged = tables.visits["engage"].to_numpy() > 0
    rate = per_positive * (engaged & ~kept).sum() / max(int((~engaged & ~kept).sum()), 1)
    draw = np.random.default_rng(seed).random(len(kept))
    (rows,) = np.nonzero(kept | engaged | (draw < rate))
    return replace(tables, visits=tables.visits.take(rows))


def newest_visits(
    tables: TrainingTables, among: npt.NDArray[np.bool_], visits: int
) -> TrainingTables:
    """Keep the newest of some visits, and all others.

    Args:
        tables: whose visits to choose from.
        among: [visit rows] bool, rows whose visits are limited.
        visits: how many of those stay.
    """
    visit_ids = tables.visits["visit_id"].to_numpy()
    limited, first = np.unique(visit_ids[among], return_index=True)
    newest = np.argsort(tables.visits["time_ms"].to_numpy()[among][first], kind="stable")
    dropped = limited[newest[: max(len(newest) - visits, 0)]]
    (rows,) = np.nonzero(~(among & np.isin(visit_ids, dropped)))
    return replace(tables, visits=tables.visits.take(rows))


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


@dataclass(frozen=True)
class Batch:
    """Inputs with their labels; a padded candidate has weight 0 and row -1.

    Attributes:
        inputs: V groups of G candidates.
        labels: [V, G, 2] float.
        weights: [V, G] float, 1 or 0.
        rows: [V, G] int64, rows of ``Rows``.
    """

    inputs: Inputs
    labels: Tensor
    weights: Tensor
    rows: Ints


class Batches:
    """Cuts examples into batches of about the same number of groups.

    A group is up to G rows of one visit. A segment is a stretch of one history with the groups
    whose visits fall into it; it starts ``context`` events early, so that each group sees what
    it would see in its whole history.
    """

    def __init__(
        self, examples: Examples, chosen: npt.NDArray[np.bool_], context: int, groups: int
    ) -> None:
        """Group the rows.

        Args:
            examples: all of them.
            chosen: [N] bool, the rows to use.
            context: events before a visit that can reach it.
            groups: groups of a batch, about.
        """
        self._examples = examples
        self._context = context
        self._groups = groups
        rows = examples.rows
        (picked,) = np.nonzero(chosen)
        visits = np.stack([rows.prefixes.owners[picked], rows.visits[picked]], 1)
        fresh = np.any(np.diff(visits, axis=0, prepend=visits[:1] - 1) != 0, axis=1)
        starts = np.flatnonzero(fresh)
        within = np.arange(len(picked)) - np.repeat(starts, np.diff([*starts, len(picked)]))
        group_starts = np.flatnonzero(fresh | (within % GROUP == 0))
        sizes = np.diff([*group_starts, len(picked)])
        columns = np.arange(GROUP)
        at = np.minimum(group_starts[:, None] + columns, max(len(picked) - 1, 0))
        self._rows: Ints = np.where(columns < sizes[:, None], picked[at], -1)

        heads = self._rows[:, 0]
        self._owners = rows.prefixes.owners[heads]
        self._prefixes = rows.prefixes.last[heads] - examples.histories.bounds[self._owners]
        # Segment k of a history covers prefixes kT + 1 .. (k + 1)T; an empty one is in the first.
        segments = np.maximum(self._prefixes - 1, 0) // SEGMENT
        keys = np.stack([self._owners, segments], 1)
        fresh = np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1) != 0, axis=1)
        self._segment_bounds: Ints = np.append(np.flatnonzero(fresh), len(keys))
        self._segments = segments[fresh]

    def plan(self, order: np.random.Generator | None = None) -> list[Ints]:
        """An epoch's batches as segments for ``build``: random ones, or in the rows' order."""
        units = np.arange(len(self._segments))
        if order is not None:
            order.shuffle(units)
        if not len(units):
            return []
        ends = np.cumsum(np.diff(self._segment_bounds)[units])
        full = np.searchsorted(ends, np.arange(self._groups, ends[-1], self._groups)) + 1
        return [part for part in np.split(units, np.unique(full)) if len(part)]

    def build(self, units: Ints) -> Batch:
        """The batch of some segments."""
        histories, rows = self._examples.histories, self._examples.rows
        lows, highs = self._segment_bounds[units], self._segment_bounds[units + 1]
        groups = np.concatenate([np.arange(a, b) for a, b in zip(lows, highs, strict=True)])
        begin = np.maximum(self._segments[units] * SEGMENT - self._context, 0)
        # Up to the last prefix that is read. Padding repeats the last event: no row looks ahead.
        length = self._prefixes[highs - 1] - begin
        steps = np.arange(max(int(length.max()), 1))
        first = histories.bounds[self._owners[lows]] + begin
        at = first[:, None] + np.minimum(steps, np.maximum(length - 1, 0)[:, None])
        at = np.minimum(at, len(histories.actions) - 1)

        picked = self._rows[groups]  # [V, G]
        valid = picked >= 0
        picked = np.where(valid, picked, picked[:, :1])
        heads = picked[:, 0]
        local = np.repeat(np.arange(len(units)), highs - lows)
        inputs = Inputs(
            history=torch.from_numpy(histories.events.ids[at]),
            actions=torch.from_numpy(histories.actions[at]),
            values=torch.from_numpy(histories.values[at]),
            time_s=torch.from_numpy(histories.events.time_ms[at] / 1000.0),
            rows=torch.from_numpy(local),
            prefixes=torch.from_numpy(self._prefixes[groups] - begin[local]),
            now_s=torch.from_numpy(rows.prefixes.now_ms[heads] / 1000.0),
            profile=torch.from_numpy(histories.profiles[self._owners[groups]]),
            context=torch.from_numpy(rows.contexts[heads]),
            items=torch.from_numpy(rows.items[picked]),
            counts=torch.from_numpy(rows.counts[picked]),
            signals=torch.from_numpy(rows.signals[picked]),
        )
        return Batch(
            inputs=inputs,
            labels=torch.from_numpy(rows.labels[picked]),
            weights=torch.from_numpy(valid.astype(np.float32)),
            rows=np.where(valid, picked, -1),
        )
