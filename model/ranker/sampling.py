"""Sampling: which visits and which negatives a training run reads.

Owns the thinning of training rows. Promises never to drop a positive row of a visit that stays
nor a row that the caller keeps, and the same rows from the same seed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..tables import TrainingTables

Mask = npt.NDArray[np.bool_]


def sample_negatives(
    tables: TrainingTables, among: Mask, kept: Mask, per_positive: int, seed: int
) -> Mask:
    """Thin out negatives to about ``per_positive`` for each positive, uniformly.

    Args:
        tables: whose visits to thin out.
        among: [visit rows] bool, the rows to choose from.
        kept: [visit rows] bool, those of them that stay in any case.
        per_positive: negatives for each positive among the other rows.
        seed: of the draw.

    Returns:
        [visit rows] bool.
    """
    engaged = tables.visits["engage"].to_numpy() > 0
    sampled: Mask = among & kept | thin_negatives(engaged, among & ~kept, per_positive, seed)
    return sampled


def thin_negatives(engaged: Mask, among: Mask, per_positive: int, seed: int) -> Mask:
    """Of some rows the positives, and about ``per_positive`` negatives for each. [N] bool each."""
    rate = per_positive * (engaged & among).sum() / max(int((~engaged & among).sum()), 1)
    draw = np.random.default_rng(seed).random(len(among))
    thinned: Mask = among & (engaged | (draw < rate))
    return thinned


def newest_visits(tables: TrainingTables, among: Mask, visits: int) -> Mask:
    """Keep the newest of some visits, and all others.

    Args:
        tables: whose visits to choose from.
        among: [visit rows] bool, rows whose visits are limited.
        visits: how many of those stay.

    Returns:
        [visit rows] bool.
    """
    visit_ids = tables.visits["visit_id"].to_numpy()
    limited, first = np.unique(visit_ids[among], return_index=True)
    newest = np.argsort(tables.visits["time_ms"].to_numpy()[among][first], kind="stable")
    dropped = limited[newest[: max(len(newest) - visits, 0)]]
    return ~(among & np.isin(visit_ids, dropped))
