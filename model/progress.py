"""Progress: how a training run tells its caller how far it is.

Owns the call's shape and the counting. Promises steps that never decrease and a last call with
step = total. Bars and log lines are the caller's.
"""

from __future__ import annotations

import math
from typing import Protocol


class Progress(Protocol):
    """Called after every piece of work of a training run."""

    def __call__(self, step: int, total: int, loss: float) -> None:
        """Say that `step` of `total` pieces are done.

        Args:
            step: pieces done, 0..total.
            total: pieces in all, the same at every call of one run.
            loss: current training loss; NaN while data is being prepared.
        """


def silent(step: int, total: int, loss: float) -> None:
    """Report nothing."""


class Pulse:
    """Counts the pieces of a run and reports them."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._step = progress, total, 0
        progress(0, total, math.nan)

    def advance(self, pieces: int = 1, loss: float = math.nan) -> None:
        """So many pieces more are done."""
        self._step += pieces
        self._progress(self._step, self._total, loss)

    def reach(self, step: int, loss: float = math.nan) -> None:
        """Pieces up to this one are done or not needed: stopped early, or done before a kill."""
        if step > self._step:
            self.advance(step - self._step, loss)
