"""How far a long verb is, as all of them show it: bars on a terminal, else a line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from model.progress import Progress as Report

from .replay import Progress as Sent

# Without a terminal: often enough to see that it goes on, and few enough for a log.
LINE_S: Final = 10.0


@contextmanager
def training_bar(console: Console, name: str) -> Iterator[Report]:
    """A bar with loss and time left; yields what a training run reports to."""
    with _bars(console) as bars:
        task = bars.add(name)

        def report(step: int, total: int, loss: float) -> None:
            text = "" if math.isnan(loss) else f"loss {loss:.4f}"
            bars.show(task, step, total, text)

        yield report


@contextmanager
def replay_bar(
    console: Console, from_ms: int, start_ms: int, until_ms: int
) -> Iterator[Callable[[Sent], None]]:
    """Bars over simulated time, with its now; yields what a replay reports to.

    The past is sent at once and the rest at its speed, so each has a bar of its own.

    Args:
        console: where.
        from_ms: everything before has been sent.
        start_ms: where the past ends; it may be earlier.
        until_ms: where the replay ends.
    """
    ends = {"the past": min(start_ms, until_ms), "replay": until_ms}
    with _bars(console) as bars:
        stretches = []
        for name, end_ms in ends.items():
            if from_ms < end_ms:
                stretches.append((bars.add(name), from_ms, end_ms))
                from_ms = end_ms

        def report(sent: Sent) -> None:
            at = datetime.fromtimestamp(sent.time_ms / 1000, UTC)
            text = f"{at:%-d %b %H:%M}  {sent.records.total():,} records"
            for task, begin_ms, end_ms in stretches:
                if sent.time_ms > begin_ms:
                    bars.show(task, min(sent.time_ms, end_ms) - begin_ms, end_ms - begin_ms, text)

        yield report


class _Bars:
    """Tasks that are shown one after the other."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._line_s = time.monotonic()
        self._shown: dict[TaskID, int] = {}

    def add(self, name: str) -> TaskID:
        """A task that has not begun; nothing is known of its length."""
        return self._progress.add_task(name, total=None, start=False, text="")

    def show(self, task: TaskID, done: int, total: int, text: str) -> None:
        """How far a task is; what is done already stays as it was."""
        if self._shown.get(task) == total:
            return
        self._shown[task] = done
        self._progress.start_task(task)
        self._progress.update(task, total=total, completed=done, text=text)
        now_s = time.monotonic()
        if not self._console.is_terminal and now_s - self._line_s >= LINE_S:
            self._line_s = now_s
            name = self._progress.tasks[task].description
            self._console.print(f"{name} {done / total:.0%}  {text}")


@contextmanager
def _bars(console: Console) -> Iterator[_Bars]:
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        yield _Bars(console, progress)
