"""Platt calibration: logits become probabilities that the value model may multiply by money.

Owns two parameters per task, fitted on weeks that training has not seen. Promises never to
change an order: the slope is positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_SLOPE = 0.05
ITERATIONS = 50
# Keeps the parameters finite on separable or one-sided labels; nothing beside real rows.
RIDGE = 1e-3
# Its probability is still a float32, of which a value model may take the logarithm.
MAX_LOGIT = 80.0


@dataclass(frozen=True)
class Platt:
    """p = sigmoid(slope x logit + offset) for each of T tasks.

    Attributes:
        slope, offset: [T] float64, slope > 0.
    """

    slope: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    @classmethod
    def identity(cls, tasks: int) -> Platt:
        """Probabilities as the logits say."""
        return cls(np.ones(tasks), np.zeros(tasks))

    @classmethod
    def fit(cls, logits: npt.NDArray[np.floating], labels: npt.NDArray[np.floating]) -> Platt:
        """Minimise the log loss by Newton's method.

        Args:
            logits: [N, T].
            labels: [N, T] in [0, 1].

        Returns:
            The identity for a task whose held-out labels are all equal, as there is nothing
            to fit.
        """
        fitted = cls.identity(logits.shape[1])
        for task in range(logits.shape[1]):
            y = labels[:, task].astype(np.float64)
            if len(y) and y.min() < y.max():
                fitted.slope[task], fitted.offset[task] = _fit(logits[:, task], y)
        return fitted

    def apply(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """[..., T] logits -> [..., T] float32 probabilities."""
        return sigmoid(logits * self.slope + self.offset).astype(np.float32)


def sigmoid(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The logistic function, without overflow at either end, and never 0."""
    p: npt.NDArray[np.floating] = np.exp(-np.logaddexp(0.0, -np.clip(x, -MAX_LOGIT, MAX_LOGIT)))
    return p


def _fit(logits: npt.NDArray[np.floating], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    x = np.stack([logits.astype(np.float64), np.ones(len(y))], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(ITERATIONS):
        p = sigmoid(x @ weights)
        gradient = x.T @ (p - y) + RIDGE * (weights - [1.0, 0.0])
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # A step of more than 2 in logit space overshoots where the probabilities saturate.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return max(float(weights[0]), MIN_SLOPE), float(weights[1])
