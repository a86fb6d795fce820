"""Batches: examples become model inputs, several histories and many visits at a time.

Owns the cutting of histories into segments and of visits into groups. Promises that a visit
batched with others sees exactly the events that it would see alone, and that each chosen row is
in an epoch once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .examples import Examples
from .inputs import Inputs
from .matches import Ints
from .thinning import Thinning

# Rows of one visit that are scored together; a longer visit becomes several groups. Half of the
# default data's visits have 13 rows or fewer: three quarters of such a batch are rows, and with
# groups of 32 half of it is padding.
GROUP = 12
# Events of one history segment, beside the context before it. Longer ones repeat less context
# but pad short histories more.
SEGMENT = 256


@dataclass(frozen=True)
class Batch:
    """Inputs with their labels; a padded candidate has weight 0 and row -1.

    Attributes:
        inputs: V groups of G candidates.
        labels: [V, G, 2] float.
        weights: [V, G] float.
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
        self,
        examples: Examples,
        chosen: npt.NDArray[np.bool_],
        context: int,
        groups: int,
        balance: float = 0.0,
        thinning: Thinning | None = None,
    ) -> None:
        """Group the rows.

        Args:
            examples: all of them.
            chosen: [N] bool, the rows to use.
            context: events before a visit that can reach it.
            groups: groups of a batch, about.
            balance: 0 weighs rows alike, 1 visits alike; by rows alone, the few users with long
                lists decide how everybody's are ordered.
            thinning: how histories are shortened in training; None leaves them whole.
        """
        self._examples = examples
        self._context = context
        self._groups = groups
        self._thinning = thinning
        self.rows = len(examples.rows)
        rows = examples.rows
        (picked,) = np.nonzero(chosen)
        visits = np.stack([rows.prefixes.owners[picked], rows.visits[picked]], 1)
        fresh = np.any(np.diff(visits, axis=0, prepend=visits[:1] - 1) != 0, axis=1)
        starts = np.flatnonzero(fresh)
        visit_rows = np.diff([*starts, len(picked)])
        within = np.arange(len(picked)) - np.repeat(starts, visit_rows)
        group_starts = np.flatnonzero(fresh | (within % GROUP == 0))
        sizes = np.diff([*group_starts, len(picked)])
        columns = np.arange(GROUP)
        at = np.minimum(group_starts[:, None] + columns, max(len(picked) - 1, 0))
        self._rows: Ints = np.where(columns < sizes[:, None], picked[at], -1)

        self._weights = np.zeros(len(rows), np.float32)
        self._weights[picked] = np.repeat(visit_rows**-balance, visit_rows)
        self._weights /= max(float(self._weights[picked].mean()), 1e-9) if len(picked) else 1.0

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

    def build(self, units: Ints, draw: np.random.Generator | None = None) -> Batch:
        """The batch of some segments; with a draw, their histories are thinned in training."""
        histories, rows = self._examples.histories, self._examples.rows
        lows, highs = self._segment_bounds[units], self._segment_bounds[units + 1]
        groups = np.concatenate([np.arange(a, b) for a, b in zip(lows, highs, strict=True)])
        begin = np.maximum(self._segments[units] * SEGMENT - self._context, 0)
        # Up to the last prefix that is read. Padding repeats the last event: no row looks ahead.
        length = self._prefixes[highs - 1] - begin
        local = np.repeat(np.arange(len(units)), highs - lows)
        prefixes = self._prefixes[groups] - begin[local]
        kept = [np.arange(size) for size in length]
        if draw is not None and self._thinning is not None:
            kept = [self._thinning.kept(size, draw) for size in length]
            prefixes = np.array(
                [np.searchsorted(kept[u], p) for u, p in zip(local, prefixes, strict=True)],
                np.int64,
            )
        first = histories.bounds[self._owners[lows]] + begin
        at = np.zeros((len(units), max(1, *map(len, kept))), np.int64)
        for row, events in enumerate(kept):
            if len(events):
                at[row, : len(events)] = first[row] + events
                at[row, len(events) :] = at[row, len(events) - 1]

        picked = self._rows[groups]  # [V, G]
        valid = picked >= 0
        picked = np.where(valid, picked, picked[:, :1])
        heads = picked[:, 0]
        inputs = Inputs(
            history=torch.from_numpy(histories.events.ids[at]),
            actions=torch.from_numpy(histories.actions[at]),
            values=torch.from_numpy(histories.events.values[at]),
            time_s=torch.from_numpy(histories.events.time_ms[at] / 1000.0),
            rows=torch.from_numpy(local),
            prefixes=torch.from_numpy(prefixes),
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
            weights=torch.from_numpy(np.where(valid, self._weights[picked], np.float32(0.0))),
            rows=np.where(valid, picked, -1),
        )
