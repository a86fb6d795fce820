"""Progress: how a training run tells its caller how far it is.

Owns the call's shape. Promises steps that never decrease and a last call with step = total. Bars
and log lines are the caller's.
"""

from __future__ import annotations

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
