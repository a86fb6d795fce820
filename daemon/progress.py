"""Progress bars, as all verbs draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from model.progress import Progress as Report

from .replay import Progress as Sent


@contextmanager
def training_bar(console: Console, name: str) -> Iterator[Report]:
    """A bar with loss and time left; yields what a training run reports to."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[loss]:<12}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None, loss="")

        def report(step: int, total: int, loss: float) -> None:
            text = "" if math.isnan(loss) else f"loss {loss:.4f}"
            bar.update(task, total=total, completed=step, loss=text)

        yield report


@contextmanager
def replay_bar(console: Console, from_ms: int, until_ms: int) -> Iterator[Callable[[Sent], None]]:
    """A bar over simulated time with records and rate; yields what a replay reports to."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[sent]:<34}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("replay", total=until_ms - from_ms, sent="")

        def report(sent: Sent) -> None:
            text = f"{sent.records.total():,} records, {sent.records_per_s:,.0f}/s"
            bar.update(task, completed=sent.time_ms - from_ms, sent=text)

        yield report
