"""Ranking metrics: normalised entropy and grouped AUC.

Owns their definitions. Promises that a constant prediction at the base rate has an entropy of 1
and that ties count one half. Which rows to judge is the caller's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def normalised_entropy(probabilities: Floats, labels: Floats) -> float:
    """Mean log loss over the entropy of the labels' own rate; NaN where all labels agree.

    Args:
        probabilities: [N] in (0, 1).
        labels: [N], 0 or 1.
    """
    y = labels.astype(np.float64)
    rate = float(y.mean()) if len(y) else 0.0
    if rate in (0.0, 1.0):
        return float("nan")
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1.0 - 1e-7)
    loss = -(y * np.log(p) + (1.0 - y) * np.log1p(-p)).mean()
    entropy = -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))
    return float(loss / entropy)


def grouped_auc(
    scores: Floats, labels: Floats, groups: npt.NDArray[np.integer], weigh_by_rows: bool = True
) -> float:
    """AUC within each group that has both labels, averaged; NaN where there is none.

    Args:
        scores: [N].
        labels: [N], 0 or 1.
        groups: [N], any order; usually the user.
        weigh_by_rows: weigh groups by their rows, else all alike.
    """
    _, auc, rows = group_aucs(scores, labels, groups)
    if not len(auc):
        return float("nan")
    return float(np.average(auc, weights=rows if weigh_by_rows else None))


def group_aucs(
    scores: Floats, labels: Floats, groups: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """AUC within each group that has both labels.

    Returns:
        The groups, ascending; their AUC; and how many rows each has.
    """
    if not len(scores):
        return groups[:0], np.zeros(0), np.zeros(0, np.int64)
    order = np.lexsort((scores, groups))
    scores, labels, groups = scores[order], labels[order].astype(np.float64), groups[order]
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    rows = np.diff(np.append(starts, len(groups)))
    positives = np.add.reduceat(labels, starts)
    negatives = rows - positives
    ranks = _mean_ranks(scores, groups) - np.repeat(starts, rows)
    wins = np.add.reduceat(ranks * labels, starts) - positives * (positives + 1) / 2
    both = (positives > 0) & (negatives > 0)
    auc = wins[both] / (positives[both] * negatives[both])
    return groups[starts][both], auc, rows[both]


def _mean_ranks(scores: Floats, groups: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """1-based positions in an order by (group, score), ties sharing their mean."""
    changed = (np.diff(scores, prepend=np.nan) != 0) | (np.diff(groups, prepend=groups[0]) != 0)
    starts = np.flatnonzero(changed)
    rows = np.diff(np.append(starts, len(scores)))
    return np.repeat(starts + (rows + 1) / 2, rows)
