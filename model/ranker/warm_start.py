"""Warm start: a ranker begins with what is known, from the events or from a checkpoint.

Owns the factors of the (user, item) counts that the shared table starts from, where there is no
checkpoint: items that the same users buy begin near each other, because one pass over the visits
teaches a row of its own too little, as most items are in a few dozen of them. Promises values on
the scale of a learned row and the same factors from the same events and seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import CheckpointCorrupt, CheckpointMismatch, differences, read
from ..schema import Schema
from .embedding import SharedEmbedding
from .gesr import Gesr
from .matches import Ints
from .ranker import KIND, unpack

# Fewer users say more about themselves than about the item.
MIN_USERS = 5
# Root mean square of a warm row's entries: six times that of a cold row, so that the factors
# speak first; half of it does almost as well.
WARM_STD = 0.3
# Of the randomised decomposition: its error is then well below what training moves.
POWER_ITERATIONS = 4
OVERSAMPLING = 8


def go_on_from(folder: Path, schema: Schema, model: Gesr) -> None:
    """Fill a model with the weights of a checkpoint.

    Raises:
        CheckpointError: it cannot be read, is of another schema, or has another configuration.
    """
    base = read(folder, KIND, schema)
    if differing := differences(base.config.get("model", {}), model.config.to_dict()):
        raise CheckpointMismatch(
            f"{folder}: cannot start from it, its configuration differs: {'; '.join(differing)}"
        )
    try:
        unpack(base.tensors, model)
    except (KeyError, RuntimeError) as error:
        raise CheckpointCorrupt(f"{folder}: {error}; train it again") from error


def warm_start(table: SharedEmbedding, owners: Ints, raw_ids: Ints) -> None:
    """Overwrite the rows of the items that enough users have.

    Args:
        table: its own width is the number of factors.
        owners: [L] int64, the user of each event.
        raw_ids: [L] int64, the item of each event, 0 = missing.
    """
    (there,) = np.nonzero(raw_ids)
    users, rows = np.unique(owners[there], return_inverse=True)
    items, columns = np.unique(raw_ids[there], return_inverse=True)
    cells, counts = np.unique(rows * len(items) + columns, return_counts=True)
    rows, columns = np.divmod(cells, max(len(items), 1))
    having = np.bincount(columns, minlength=len(items))
    chosen = having >= MIN_USERS
    width = table.weight.shape[1]
    if min(chosen.sum(), len(users)) <= width + OVERSAMPLING:
        return

    # Log counts, rare items up, each user alike: the usual weighting of such counts.
    kept = chosen[columns]
    rows, columns = rows[kept], (np.cumsum(chosen) - 1)[columns[kept]]
    weights = np.log1p(counts[kept]) * np.log(len(users) / having[chosen])[columns]
    norms = np.sqrt(np.bincount(rows, weights**2, len(users)))[rows]
    weights = weights / np.maximum(norms, 1e-9)
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([rows, columns])),
        torch.from_numpy(weights.astype(np.float32)),
        (len(users), int(chosen.sum())),
        check_invariants=False,
    ).coalesce()
    with torch.no_grad():
        factors = _item_factors(matrix, width)
        table.weight[table.place(torch.from_numpy(items[chosen]))] = WARM_STD * factors


def _item_factors(matrix: Tensor, width: int) -> Tensor:
    """[users, items] sparse -> [items, width], each row of unit mean square."""
    _, values, items = torch.svd_lowrank(matrix, width + OVERSAMPLING, niter=POWER_ITERATIONS)
    factors = items[:, :width] * values[:width].sqrt()
    return factors / factors.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
