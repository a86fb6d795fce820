"""Retrieval: all 8,987 items ranked for every household, against what it then bought.

Owns which systems are measured on which part of the split, and the rows that say so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..datasets.complete_journey import retrieval as journey
from . import Run, baselines
from .bootstrap import estimate
from .measures import Measures


def measure(run: Run) -> None:
    """Measure the retriever and its baselines on December."""
    split = journey.split()
    seen = baselines.Past(split, journey.DECEMBER_MS).counts() > 0
    measures = Measures(split.test, seen)
    with run.console.status("baselines of retrieval"):
        for system, scores in baselines.scores(split, journey.DECEMBER_MS).items():
            _add(run, system, measures.of(scores.__getitem__))


def _add(run: Run, system: str, values: Mapping[str, NDArray[np.float64]]) -> None:
    for axis, of_users in values.items():
        found = estimate(of_users)
        run.rows.add(axis, found.value, "share", system=system, spread=found.spread, n=found.n)
