"""Trust: how much of the retriever's score goes into a ranker's logits as it is.

Owns one weight per task, fitted to the held-out visits. Promises never to reward a low score, and
to add nothing where an ad has no score.

The network reads the score too, as a signal, but learns what each row's probability is. An answer
is a list, and each list counts alike. So the weight is that which makes the best lists, by the
listwise loss that the retriever learns from: for each visit, minus the mean log probability of what
was taken, in a softmax over the visit's ads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .calibration import ITERATIONS, MIN_SLOPE, RIDGE
from .matches import Floats, Ints


class Trust(nn.Module):
    """Adds its share of the score in evaluation; in training the network stands alone."""

    def __init__(self, column: int, tasks: int) -> None:
        """Args: where the score stands among the derived signals, and the number of tasks."""
        super().__init__()
        self.column = column
        self.share: Tensor
        self.centre: Tensor
        self.register_buffer("share", torch.zeros(tasks))
        self.register_buffer("centre", torch.zeros(()))

    def forward(self, signals: Tensor) -> Tensor:
        """[..., R] derived signals -> [..., tasks] to add to the logits."""
        if self.training:
            return signals.new_zeros(len(self.share))
        score = (signals[..., self.column, None] - self.centre).nan_to_num()
        return score * self.share

    def fit(self, logits: Floats, signals: Floats, labels: Floats, visits: Ints) -> Floats:
        """Find the shares.

        Args:
            logits: [N, tasks] in evaluation, of rows that the network has not learned from.
            signals: [N, R].
            labels: [N, tasks], 0 or 1.
            visits: [N], whose rows are ordered against each other.

        Returns:
            [N, tasks], the logits with the new shares.
        """
        read = torch.from_numpy(signals)
        alone = logits - self(read).numpy()
        scores = signals[:, self.column].astype(np.float64)
        if not np.isfinite(scores).any():
            return logits
        centre, scale = float(np.nanmean(scores)), float(np.nanstd(scores)) + 1e-9
        standard = np.nan_to_num((scores - centre) / scale)
        self.centre.fill_(centre)
        for task in range(len(self.share)):
            own, beside = _listwise(
                np.stack([alone[:, task], standard], 1), labels[:, task], visits
            )
            self.share[task] = max(beside, 0.0) / max(own, MIN_SLOPE) / scale
        shared: Floats = alone + self(read).numpy()
        return shared


def _listwise(x: npt.NDArray[np.float64], y: Floats, visits: Ints) -> tuple[float, float]:
    """The weights of two columns with the least listwise loss, by Newton's method.

    1 and 0 where no visit has rows of both labels.
    """
    taken = y > 0
    _, visit = np.unique(visits, return_inverse=True)
    positives, size = np.bincount(visit, taken), np.bincount(visit)
    told = ((positives > 0) & (positives < size))[visit]
    x, taken = x[told], taken[told]
    _, visit = np.unique(visit[told], return_inverse=True)
    weights = np.array([1.0, 0.0])
    if not len(x):
        return 1.0, 0.0
    lists = visit.max() + 1
    wanted = taken / np.bincount(visit, taken)[visit]
    for _ in range(ITERATIONS):
        logits = x @ weights
        top = np.full(lists, -np.inf)
        np.maximum.at(top, visit, logits)
        p = np.exp(logits - top[visit])
        p /= np.bincount(visit, p)[visit]
        mean = np.stack([np.bincount(visit, p * column) for column in x.T])
        gradient = x.T @ (p - wanted) / lists + RIDGE * (weights - [1.0, 0.0])
        hessian = ((x * p[:, None]).T @ x - mean @ mean.T) / lists + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # A step of more than 2 overshoots where the probabilities saturate.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])
