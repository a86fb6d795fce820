"""Affinity: what the items that a user has met say about another item.

Owns a closed-form regression of every item on all others (EASE, Steck, arXiv 1905.03375: ridge
regression without self-weights), of as many items as a checkpoint can hold and a request can
afford. Promises the same score in training and in serving from the same items met. How much it
says is the model's to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .config import AffinityConfig
from .matches import DAY_MS, Events, Floats, Ints, Prefixes

_BLOCK = 512


@dataclass(frozen=True)
class Affinity:
    """What each of I items that may be met says about T items.

    Attributes:
        met: [I] int64 raw ids, ascending.
        items: [T] int64 raw ids, ascending.
        weights: [I, T] float16; most are small, and many together are what speaks.
    """

    met: Ints
    items: Ints
    weights: npt.NDArray[np.float16]

    def score(self, history: Ints, items: Ints) -> Floats:
        """Sum the weights of the distinct items of one history.

        Args:
            history: [L] int64 raw ids, 0 = missing.
            items: [N] int64 raw ids.

        Returns:
            [N] float32; NaN for an item that the regression does not know.
        """
        out = np.full(len(items), np.nan, np.float32)
        if not len(self.items):
            return out
        distinct = np.unique(history)
        at = np.minimum(np.searchsorted(self.met, distinct), len(self.met) - 1)
        rows = at[self.met[at] == distinct]
        at = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        (known,) = np.nonzero(self.items[at] == items)
        out[known] = self.weights[np.ix_(rows, at[known])].sum(0, dtype=np.float32)
        return out

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The table for a checkpoint."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.generic]]) -> Affinity:
        """The inverse of ``tensors``. Raises TypeError where a part is missing."""
        return cls(**tensors)  # type: ignore[arg-type]


def fit_affinity(users: Ints, items: Ints, targets: Ints, config: AffinityConfig) -> Affinity:
    """Regress items on items.

    The inverse is taken on the side of which there are fewer, items or users:
    (X'X + r)^-1 = (1 - X' (XX' + r)^-1 X) / r.

    Args:
        users: [L] int64, the user of each event.
        items: [L] int64, the item of each event, 0 = missing.
        targets: [..] int64 raw ids whose scores will be asked for; those with too few users are
            left out.
        config: sizes and strength.
    """
    met, matrix = _incidence(users, items, targets, config)
    (columns,) = np.nonzero(np.isin(met, targets))
    if len(met) < len(matrix):
        return Affinity(met, met[columns], _by_items(matrix, columns, config.ridge))
    return Affinity(met, met[columns], _by_users(matrix, columns, config.ridge))


def _by_items(matrix: Floats, columns: Ints, ridge: float) -> npt.NDArray[np.float16]:
    """Weights of all I items for T of them, from [U, I]: costs I^2 of memory."""
    gram = matrix.T @ matrix
    gram[np.diag_indices(len(gram))] += ridge
    root = torch.linalg.cholesky(torch.from_numpy(gram))
    inverse: Floats = torch.cholesky_inverse(root).numpy()
    weights = -inverse[:, columns] / inverse.diagonal()[columns]
    weights[columns, np.arange(len(columns))] = 0.0
    return weights.astype(np.float16)


def _by_users(matrix: Floats, columns: Ints, ridge: float) -> npt.NDArray[np.float16]:
    """As ``_by_items``, at the cost of U^2."""
    kernel = matrix @ matrix.T
    kernel[np.diag_indices(len(kernel))] += ridge
    # torch, because NumPy knows no triangular solve and takes four times as long.
    root = torch.linalg.cholesky(torch.from_numpy(kernel))
    whitened = torch.linalg.solve_triangular(root, torch.from_numpy(matrix), upper=False).numpy()
    diagonal = 1 - np.einsum("ui,ui->i", whitened, whitened)
    weights = np.empty((matrix.shape[1], len(columns)), np.float16)
    for start in range(0, len(columns), _BLOCK):
        block = columns[start : start + _BLOCK]
        part = whitened.T @ whitened[:, block] / diagonal[block]
        part[block, np.arange(len(block))] = 0.0
        weights[:, start : start + _BLOCK] = part
    return weights


def score_prefixes(
    table_at: Callable[[int], Affinity], events: Events, item: int, prefixes: Prefixes, items: Ints
) -> Floats:
    """Score N rows, each against the items that its own prefix has met.

    Args:
        table_at: the table that a row of some epoch ms reads.
        events: the histories.
        item: the column of ``events.ids`` that names the item.
        prefixes: N of them; rows of one prefix are best adjacent.
        items: [N] int64 raw ids.

    Returns:
        [N, 1] float32.
    """
    out = np.empty((len(items), 1), np.float32)
    keys = np.stack([prefixes.owners, prefixes.first, prefixes.last, prefixes.now_ms], 1)
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1) != 0, axis=1))
    for start, end in zip(starts, [*starts[1:], len(items)], strict=True):
        history = events.ids[prefixes.first[start] : prefixes.last[start], item]
        table = table_at(int(prefixes.now_ms[start]))
        out[start:end, 0] = table.score(history, items[start:end])
    return out


class AffinityHistory:
    """The fits that rows of different times read: each as of a moment before the row.

    A row reads the newest of the fits made every ``refit_days``, so that it knows as little of
    its own outcome, and is as out of date, as a request that a checkpoint answers.
    """

    def __init__(self, events: Events, item: int, targets: Ints, config: AffinityConfig) -> None:
        """Args: the histories, their column of the item, raw ids to be scored, and settings."""
        self._events = events
        self._item = item
        self._targets = targets
        self._config = config

    def before(self, time_ms: int) -> Affinity:
        """The fit of all events strictly before a time."""
        known = self._events.time_ms < time_ms
        owners, ids = self._events.owners[known], self._events.ids[known, self._item]
        return fit_affinity(owners, ids, self._targets, self._config)

    def as_of(self, prefixes: Prefixes, items: Ints, table: Affinity | None = None) -> Floats:
        """[N, 1] float32 scores of N rows; the first fit is as of the earliest of them.

        With a ``table`` all rows read that one.
        """
        first_ms = int(prefixes.now_ms.min(initial=np.iinfo(np.int64).max))
        step_ms = int(self._config.refit_days * DAY_MS)
        fits: dict[int, Affinity] = {}

        def table_at(now_ms: int) -> Affinity:
            if table is not None:
                return table
            at = (now_ms - first_ms) // step_ms
            if at not in fits:
                fits[at] = self.before(first_ms + at * step_ms)
            return fits[at]

        return score_prefixes(table_at, self._events, self._item, prefixes, items)


def _incidence(
    users: Ints, items: Ints, targets: Ints, config: AffinityConfig
) -> tuple[Ints, Floats]:
    """Raw ids of the items that take part, ascending, and [users, items] float32 of 0 and 1."""
    (there,) = np.nonzero(items)
    people, rows = np.unique(users[there], return_inverse=True)
    ids, columns = np.unique(items[there], return_inverse=True)
    cells = np.unique(rows * max(len(ids), 1) + columns)
    rows, columns = np.divmod(cells, max(len(ids), 1))
    having = np.bincount(columns, minlength=len(ids))
    # Those that are asked for come first, then the most popular.
    order = np.lexsort((-having, ~np.isin(ids, targets)))
    order = order[having[order] >= config.min_users]
    chosen = np.sort(order[: config.max_items])
    place = np.full(len(ids), -1)
    place[chosen] = np.arange(len(chosen))
    taking_part = place[columns] >= 0
    matrix = np.zeros((len(people), len(chosen)), np.float32)
    matrix[rows[taking_part], place[columns[taking_part]]] = 1.0
    return ids[chosen], matrix
