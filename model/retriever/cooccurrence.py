"""Co-occurrence: which items are bought by the users who bought another one.

Owns a closed-form regression of every item on all others (EASE, Steck, arXiv 1905.03375: ridge
regression without self-weights), read in two ways: as factors for the towers' inner product, and
as the listed (item met, item advertised) pairs of HitMatch. How much either counts is learned in
`network`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .lookup import positions

# Oversampling and power iterations of the randomised eigensolver (Halko et al., arXiv 0909.4061):
# with both the leading 64 factors change no recall in the third digit.
_OVERSAMPLING = 16
_ITERATIONS = 2
_BLOCK = 512


@dataclass(frozen=True)
class Cooccurrence:
    """Item to item weights among I items.

    Attributes:
        ids: [I] int64 raw ids, ascending.
        source: [I, R] float32; source @ target.T approximates the weights.
        target: [I, R] float32.
        pair_offsets: [I + 1] int64 bounds of the pairs of each source item.
        pair_targets: [N] int64 positions of target items.
        pair_weights: [N] float32, > 0.
    """

    ids: np.ndarray
    source: np.ndarray
    target: np.ndarray
    pair_offsets: np.ndarray
    pair_targets: np.ndarray
    pair_weights: np.ndarray

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Positions of raw ids; -1 for an id that is not among the items."""
        return positions(self.ids, ids)


@dataclass(frozen=True)
class CooccurrenceSettings:
    """Size and strength of the regression.

    Attributes:
        rank: factors R.
        ridge: strength of the regularisation, in users.
        min_users: users who must have met an item for it to take part.
        min_together: users who must have met both items of a listed pair.
        pairs_per_item: pairs kept of each source item, the strongest.
        max_items: at most so many items, the most popular.
        max_users: at most so many users, those with the most items below `max_items`.
    """

    rank: int = 64
    ridge: float = 1000.0
    min_users: int = 20
    min_together: int = 5
    pairs_per_item: int = 20
    max_items: int = 8192
    max_users: int = 4096


def fit(
    users: np.ndarray, items: np.ndarray, targets: np.ndarray, settings: CooccurrenceSettings
) -> Cooccurrence:
    """Regress items on items.

    The inverse is taken on the side of the users, of whom there are fewer:
    (X'X + r)^-1 = (1 - X' (XX' + r)^-1 X) / r.

    Args:
        users: [N] int64 user of each event.
        items: [N] int64 raw id of each event's item; 0 is left out.
        targets: raw ids that a listed pair may lead to (items that are advertised).
        settings: sizes.
    """
    ids, matrix = _incidence(users, items, settings)
    count, rank = len(ids), settings.rank
    if count < 2:
        none = np.zeros((count, rank), np.float32)
        empty = np.zeros(0, np.int64)
        offsets = np.zeros(count + 1, np.int64)
        return Cooccurrence(ids, none, none, offsets, empty, np.zeros(0, np.float32))

    kernel = matrix @ matrix.T
    kernel[np.diag_indices(len(kernel))] += settings.ridge
    # torch, because NumPy knows no triangular solve and takes four times as long.
    root = torch.linalg.cholesky(torch.from_numpy(kernel))
    whitened = torch.linalg.solve_triangular(root, torch.from_numpy(matrix), upper=False).numpy()
    # With D the diagonal of the inverse, the weights are W = (whitened' whitened / r) / D off the
    # diagonal. D^.5 W D^-.5 is symmetric, so that its eigenvectors give both sides' factors.
    scale = np.sqrt(1 - np.einsum("ui,ui->i", whitened, whitened))
    half = whitened / scale
    diagonal = np.einsum("ui,ui->i", half, half)[:, None]

    def symmetric(block: np.ndarray) -> np.ndarray:
        product: np.ndarray = half.T @ (half @ block) - diagonal * block
        return product

    values, vectors = _leading(symmetric, count, rank)
    source = vectors * values * scale[:, None]
    target = vectors / scale[:, None]
    columns = np.flatnonzero(np.isin(ids, targets))
    pairs = _pairs(matrix, half, scale, columns, settings)
    return Cooccurrence(ids, source, target, *pairs)


def _incidence(
    users: np.ndarray, items: np.ndarray, settings: CooccurrenceSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Raw ids of the items that take part, ascending, and [users, items] float32 of 0 and 1."""
    pairs = np.unique(np.stack([users, items])[:, items > 0], axis=1)
    ids, counts = np.unique(pairs[1], return_counts=True)
    popular = np.argsort(-counts, kind="stable")[: settings.max_items]
    ids = np.sort(ids[popular[counts[popular] >= settings.min_users]])
    pairs = pairs[:, np.isin(pairs[1], ids)]
    people, counts = np.unique(pairs[0], return_counts=True)
    people = np.sort(people[np.argsort(-counts, kind="stable")[: settings.max_users]])
    pairs = pairs[:, np.isin(pairs[0], people)]
    matrix = np.zeros((len(people), len(ids)), np.float32)
    matrix[np.searchsorted(people, pairs[0]), np.searchsorted(ids, pairs[1])] = 1
    return ids, matrix


def _leading(
    operator: Callable[[np.ndarray], np.ndarray], count: int, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """The eigenpairs of largest magnitude: [rank] and [count, rank], zero-padded."""
    width = min(rank + _OVERSAMPLING, count)
    block = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    for _ in range(_ITERATIONS + 1):
        block = np.linalg.qr(operator(block))[0]
    values, rotation = np.linalg.eigh(block.T @ operator(block))
    order = np.argsort(-np.abs(values))[:rank]
    vectors = np.zeros((count, rank), np.float32)
    vectors[:, : len(order)] = block @ rotation[:, order]
    padded = np.zeros(rank, np.float32)
    padded[: len(order)] = values[order]
    return padded, vectors


def _pairs(
    matrix: np.ndarray,
    half: np.ndarray,
    scale: np.ndarray,
    targets: np.ndarray,
    settings: CooccurrenceSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The strongest pairs of each source item.

    Args:
        matrix: [users, I] float32 of 0 and 1.
        half: [users, I] float32 with weights half' half * scale_i / scale_j.
        scale: [I] float32.
        targets: [T] int64 items that a pair may lead to.
        settings: sizes.

    Returns:
        Offsets [I + 1], items led to [N], and their weights [N].
    """
    count, kept = half.shape[1], min(settings.pairs_per_item, len(targets))
    if not kept:
        none = np.zeros(0, np.int64)
        return np.zeros(count + 1, np.int64), none, np.zeros(0, np.float32)
    lengths, items, weights = [], [], []
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        weight = (half[:, rows].T @ half[:, targets]) * scale[rows, None] / scale[targets]
        weight[rows[:, None] == targets] = -np.inf
        best = np.argpartition(-weight, kept - 1, axis=1)[:, :kept]
        weight = np.take_along_axis(weight, best, axis=1)
        best = targets[best]
        met = matrix[:, rows].T > 0
        together = np.stack(
            [matrix[np.ix_(users, led)].sum(axis=0) for users, led in zip(met, best, strict=True)]
        )
        listed = (weight > 0) & (together >= settings.min_together)
        lengths.append(listed.sum(axis=1))
        items.append(best[listed])
        weights.append(weight[listed])
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
    return offsets, np.concatenate(items), np.concatenate(weights).astype(np.float32)
