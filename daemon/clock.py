"""The worker's clock: what "now" means for flights, recency and decay.

Owns one time in epoch milliseconds UTC. The wall clock is the system's; the replay clock is the
greatest time seen on the `_clock` records of `ads-control`, so that a replayed year behaves as
that year did. Record times (freshness, deadlines) are never read from here: they are always wall
time.
"""

from __future__ import annotations

import time
from typing import Protocol


def wall_ms() -> int:
    """Return the system's time, epoch milliseconds UTC."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """What ingest and scoring ask for the time."""

    mode: str
    """"wall" or "replay"; the times of one mean nothing to the other."""

    def now_ms(self) -> int:
        """Return now, epoch milliseconds UTC."""

    def advance(self, time_ms: int) -> None:
        """Take note of a `_clock` record."""


class WallClock:
    """The system's clock; `_clock` records do not move it."""

    mode = "wall"

    def now_ms(self) -> int:
        """Return the system's time."""
        return wall_ms()

    def advance(self, time_ms: int) -> None:
        """Ignore the record: this worker does not replay."""


class ReplayClock:
    """The greatest time seen on `_clock` records, never going back."""

    mode = "replay"

    def __init__(self, time_ms: int = 0) -> None:
        self._time_ms = time_ms

    def now_ms(self) -> int:
        """Return the replayed time; 0 before the first record."""
        return self._time_ms

    def advance(self, time_ms: int) -> None:
        """Move to `time_ms` unless that is in the past already."""
        self._time_ms = max(self._time_ms, time_ms)
