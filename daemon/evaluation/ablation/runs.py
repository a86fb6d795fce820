"""Runs: every system of every study with every seed, those that are finished left out.

Owns their order and what is said meanwhile. Promises that a run's figures do not depend on which
runs came before it, so that an interrupted ablation ends as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .results import Key, Results
from .study import Outcome, Study

Outcomes = Mapping[str, Sequence[Outcome]]
"""Of each system, by seed."""


class Display(Protocol):
    """What is told while runs are carried out."""

    def __call__(self, text: str, done: float, runs: int, left_s: float | None) -> None:
        """Say what is being done, how many of the runs are, and seconds until all are."""


def silent(text: str, done: float, runs: int, left_s: float | None) -> None:
    """Say nothing."""


def carry_out(
    studies: Sequence[Study], seeds: int, results: Results, display: Display = silent
) -> Mapping[str, Outcomes]:
    """Carry out the runs that are not finished.

    Args:
        studies: what is compared.
        seeds: 0 .. seeds - 1 train each system.
        results: of finished runs, where these will be kept.
        display: told after every step.

    Returns:
        The outcomes of each study, by its name.
    """
    wanted = [
        (study, Key(study.name, system, seed, study.identity(system)))
        for study in studies
        for system in study.systems
        for seed in range(seeds)
    ]
    missing = [(study, key) for study, key in wanted if results.find(key) is None]
    clock = _Clock(display, len(missing))
    for study, key in missing:
        results.keep(key, study.run(key.system, key.seed, clock.next(key)))
    found: dict[str, dict[str, list[Outcome]]] = {study.name: {} for study in studies}
    for _, key in wanted:
        outcome = results.find(key)
        assert outcome is not None
        found[key.study].setdefault(key.system, []).append(outcome)
    return found


@dataclass
class _Clock:
    """Tells how many runs are done and, from how long those took, when all will be."""

    display: Display
    runs: int
    begun: int = 0
    text: str = ""
    began_s: float = field(default_factory=time.monotonic)

    def next(self, key: Key) -> _Clock:
        """The clock of the next run, to be called as a training's progress."""
        self.begun += 1
        self.text = f"{key.study}: {key.system}, seed {key.seed}"
        self(0, 1, math.nan)
        return self

    def __call__(self, step: int, total: int, loss: float) -> None:
        done = self.begun - 1 + step / max(total, 1)
        took_s = time.monotonic() - self.began_s
        # The first run prepares the data: what its first steps say is far off.
        left_s = took_s / done * (self.runs - done) if self.begun > 1 else None
        text = self.text if math.isnan(loss) else f"{self.text}, loss {loss:.4f}"
        self.display(text, done, self.runs, left_s)


@contextmanager
def bar(console: Console) -> Iterator[Display]:
    """A bar over all runs, with the time left."""
    columns = (
        TextColumn("{task.fields[runs]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]:<16}"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as drawn:
        task = drawn.add_task("the data", total=None, runs="", left="")

        def tell(text: str, done: float, runs: int, left_s: float | None) -> None:
            left = "" if left_s is None else f"{timedelta(seconds=round(left_s))} left"
            count = f"run {int(done) + 1} of {runs}"
            drawn.update(task, description=text, completed=done, total=runs, runs=count, left=left)

        yield tell
