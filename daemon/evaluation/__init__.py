"""Evaluation: both models on real data, beside baselines that are computed in the same run.

Owns the parts of `headwater evaluate` and the measures that they share. Promises that a part reads
its test rows only to measure on them. Training is `daemon.training`'s, rows are `daemon.rows`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console

from ..rows import Rows


@dataclass(frozen=True)
class Run:
    """What every part is given.

    Attributes:
        checkpoints: folder of the checkpoints; one that is missing is trained into it.
        seeds: how many trainings of each model the figures are means of.
        console: for progress; figures go to `rows`.
        rows: the figures so far.
    """

    checkpoints: Path
    seeds: int
    console: Console
    rows: Rows


class Part(StrEnum):
    """What can be evaluated alone."""

    RETRIEVAL = "retrieval"
    RANKING = "ranking"


def parts() -> Mapping[Part, Callable[[Run], None]]:
    """Each part's measurement, in the order in which they run."""
    # Imported when asked for: torch takes seconds that other verbs need not wait.
    from . import ranking, retrieval

    return {Part.RETRIEVAL: retrieval.measure, Part.RANKING: ranking.measure}
