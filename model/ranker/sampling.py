"""Sampling: which visits and which negatives a training run reads.

Owns the thinning of training tables. Promises never to drop a positive row of a visit that stays
nor a row that the caller keeps, and the same rows from the same seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..tables import TrainingTables


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
