"""Boosted trees, as a baseline: LightGBM on the features that a ranker reads.

Owns its settings. LightGBM is in the extra `bench`; without it there is no such baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

_ROUNDS = 600
_PATIENCE = 40


def grow(
    names: Sequence[str], x: Floats, y: Floats, train: Mask, validate: Mask
) -> Callable[[Floats], Floats] | None:
    """Learn from some rows, and stop early by others.

    Args:
        names: of the R features.
        x, y: [N, R], NaN where there is none, and [N].
        train, validate: [N] bool.

    Returns:
        [N, R] features to [N] logits; None where LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        return None
    plain = [name.replace("~", "_to_").replace(".", "_") for name in names]
    learned = lightgbm.Dataset(x[train], y[train], feature_name=plain)
    judged = lightgbm.Dataset(x[validate], y[validate], reference=learned)
    trees = lightgbm.train(
        {
            "objective": "binary",
            "learning_rate": 0.06,
            "num_leaves": 63,
            "min_data_in_leaf": 200,
            "feature_fraction": 0.5,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 10.0,
            "seed": 0,
            "verbose": -1,
        },
        learned,
        _ROUNDS,
        valid_sets=[judged],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    return lambda rows: np.asarray(trees.predict(rows, raw_score=True))
