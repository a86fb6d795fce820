"""Stochastic length: histories that are thinned in training, so that long ones cost less.

Owns which events of a history a training step reads (HSTU, arXiv 2402.17152, stochastic length
with recency-weighted sampling). Promises that attention over the events kept costs about
N^alpha pairs in expectation, not the square of the length, and that serving reads whole histories.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .matches import Ints


@dataclass(frozen=True)
class Thinning:
    """Keep n events whole if n^2 <= N^alpha, else with probability N^alpha / n^2, else a sample.

    The sample has N^(alpha/2) events, the newer ones with the greater probability.

    Attributes:
        events: N, the longest history there is.
        alpha: between 1 (thins the most) and 2 (keeps everything).
    """

    events: int
    alpha: float

    def __post_init__(self) -> None:
        if self.events < 1 or not 1.0 <= self.alpha <= 2.0:
            raise ValueError(f"alpha must be in [1, 2] and events positive, got {self}")

    @property
    def budget(self) -> float:
        """N^alpha, the pairs of events that one history may cost."""
        return math.pow(self.events, self.alpha)

    def kept(self, length: int, draw: np.random.Generator) -> Ints:
        """Positions, ascending, of the events that a step reads of a history of ``length``."""
        every = np.arange(length)
        sample = int(self.budget**0.5)
        if length <= sample or draw.random() < self.budget / length**2:
            return every
        # The largest of u^(1/w) are a weighted sample without repetition (Efraimidis, Spirakis).
        keys = draw.random(length) ** (1.0 / (1.0 + every))
        return np.sort(np.argpartition(keys, length - sample)[length - sample :])
