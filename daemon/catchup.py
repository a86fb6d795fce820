"""A topic on its way to the end that it had when the worker started.

Owns how fast that goes and how long it will take: in the log, as the reason why the worker is not
ready yet, in `/v1/status` and as metrics.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from monitoring.metrics import REPLAY_LEFT_SECONDS, REPLAY_RATE

from .ingest import IngestLoop

log = structlog.get_logger(__name__)

INTERVAL_S = 0.5
LOG_INTERVAL_S = 5.0


@dataclass(frozen=True)
class Progress:
    """How far a replay is."""

    offsets_left: int
    offsets_per_s: float
    """Since its start."""
    left_s: float | None
    """At that rate; None before there is one."""

    def __str__(self) -> str:
        left = "" if self.left_s is None else f", {self.left_s:,.0f} s left"
        return f"replaying: {self.offsets_left:,} offsets at {self.offsets_per_s:,.0f}/s{left}"

    def status(self) -> dict[str, Any]:
        """For `/v1/status`."""
        return {
            "offsets_left": self.offsets_left,
            "offsets_per_s": round(self.offsets_per_s),
            "left_s": None if self.left_s is None else round(self.left_s, 1),
        }


async def catch_up(loop: IngestLoop[Any], tell: Callable[[Progress], None]) -> None:
    """Wait until everything that is on the topic now is applied, and `tell` how far it is.

    A topic that waits has told why itself.
    """
    topic = loop.applier.topic
    ends = await loop.ends()
    began_s = logged_s = time.monotonic()
    first = left = loop.left(ends)
    while True:
        now_s = time.monotonic()
        rate = (first - left) / max(now_s - began_s, 1e-3)
        progress = Progress(left, rate, left / rate if rate else None)
        REPLAY_RATE.labels(topic).set(rate if left else 0.0)
        REPLAY_LEFT_SECONDS.labels(topic).set(progress.left_s or 0.0)
        if not left:
            log.info("caught_up", topic=topic, offsets=first, seconds=round(now_s - began_s, 1))
            return
        if loop.waiting is None:
            tell(progress)
        if now_s - logged_s >= LOG_INTERVAL_S:
            logged_s = now_s
            log.info("replaying", topic=topic, **progress.status())
        await loop.reached(ends, INTERVAL_S)
        left = loop.left(ends)
