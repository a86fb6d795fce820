"""Logistic regression, as a baseline: Newton's method over the features' quantiles.

Owns the design and the fit. Promises the same numbers from the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.ranker.calibration import sigmoid

Floats = NDArray[np.floating]

_QUANTILES = 65
_RIDGE = 10.0
_STEPS = 12
_BLOCK = 65_536


@dataclass(frozen=True)
class LogisticRegression:
    """A feature enters as its quantile q from -1 to 1, as q squared, and as whether it exists.

    Attributes:
        edges: for each of R features, its ascending quantiles in training.
        weights: [3 R + 1] float64, the last the intercept.
    """

    edges: list[Floats]
    weights: NDArray[np.float64]

    @classmethod
    def fit(cls, x: Floats, y: Floats) -> LogisticRegression:
        """Minimise the log loss with a ridge. x: [N, R], NaN where there is none; y: [N]."""
        at = np.linspace(0, 1, _QUANTILES)
        found = cls(
            [np.unique(np.quantile(_there(column), at)) for column in x[::10].T],
            np.zeros(3 * x.shape[1] + 1),
        )
        for _ in range(_STEPS):
            step = found._newton(x, y)
            # Longer ones overshoot where the probabilities saturate.
            found.weights[:] -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
            if np.abs(step).max() < 1e-4:
                break
        return found

    def logits(self, x: Floats) -> Floats:
        """[N, R] -> [N]."""
        parts = [self._design(rows) @ self.weights for rows in _blocks(x)]
        return np.concatenate(parts)

    def _newton(self, x: Floats, y: Floats) -> NDArray[np.float64]:
        gradient: NDArray[np.float64] = _RIDGE * self.weights
        hessian = _RIDGE * np.eye(len(self.weights))
        for rows, labels in zip(_blocks(x), _blocks(y), strict=True):
            design = self._design(rows)
            p = np.asarray(sigmoid(design @ self.weights), np.float32)
            gradient += (design.T @ (p - labels)).astype(np.float64)
            hessian += (design * (p * (1 - p))[:, None]).T @ design
        return np.asarray(np.linalg.solve(hessian, gradient), np.float64)

    def _design(self, x: Floats) -> NDArray[np.float32]:
        """[N, R] -> [N, 3 R + 1]."""
        missing = np.isnan(x)
        q = np.empty(x.shape, np.float32)
        for r, edges in enumerate(self.edges):
            q[:, r] = np.interp(x[:, r], edges, np.linspace(-1, 1, len(edges)))
        q[missing] = 0.0
        ones = np.ones((len(x), 1), np.float32)
        return np.concatenate([q, q**2, missing, ones], 1, dtype=np.float32)


def _there(column: Floats) -> Floats:
    """The values that exist; of none, a number in their place."""
    there = column[~np.isnan(column)]
    return there if len(there) else np.zeros(1)


def _blocks(rows: Floats) -> Iterator[Floats]:
    return (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
