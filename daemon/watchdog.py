"""What stands still although it should not: told, and in the end ended.

Owns a thread of its own, because what stalls cannot say so. It looks at the event loop, the intake
thread, the scoring thread and the position on every topic. Promises that a stall is counted, in the
log with what every thread is at, and a reason not to be ready; that the reason goes when the stall
does; and that a stall which stays ends the process, in order if that can still be done, so that
whoever supervises it starts it again. Even a call that never gives Python's lock back ends so.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import structlog

from monitoring.health import Readiness
from monitoring.metrics import STALLS, StalledPart

from .failure import Failed
from .grace import Grace
from .settings import WatchdogSection

log = structlog.get_logger(__name__)

CONDITION = "watchdog"
LOOK_S = 0.2
# A thread that wakes up so late was not running, and neither was anything else: the whole process
# was stopped, and has to come to itself before it can be blamed.
ASLEEP_S = 5.0


class Stalled(Failed):
    """A part stood still for too long; a restart is what helps."""


@dataclass(frozen=True)
class Watch:
    """One thing that must go on."""

    part: StalledPart
    name: str
    """For people."""
    stuck_s: Callable[[], float]
    """For how long it has not; 0 while there is nothing to do."""
    limit_s: float


class Watchdog:
    """Looks from `start` on; `run` is its part on the event loop.

    Args:
        watches: all but the event loop, which it watches itself.
        settings: limits.
        readiness: has the condition `CONDITION`.
        grace: begun when a stall stays.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        settings: WatchdogSection,
        readiness: Readiness,
        grace: Grace,
    ) -> None:
        self._beat_s = time.monotonic()
        self._loop = Watch("event_loop", "event loop", self._since_beat_s, settings.event_loop_s)
        self._watches = (self._loop, *watches)
        self._exit_after_s = settings.exit_after_s
        self._readiness = readiness
        self._grace = grace
        self._stalled: dict[str, str] = {}
        self._fatal: str | None = None
        self._looked_s = self._awake_s = time.monotonic()
        self._thread = threading.Thread(target=self._look_on, name="watchdog", daemon=True)

    async def run(self) -> NoReturn:
        """Let the thread see that the event loop goes on; raise when it finds that nothing helps.

        Raises:
            Stalled: a part stood still for too long.
        """
        self._beat_s = time.monotonic()
        self._thread.start()
        self._readiness.meet(CONDITION)
        while self._fatal is None:
            await asyncio.sleep(LOOK_S)
            self._beat_s = time.monotonic()
        raise Stalled(self._fatal)

    def _since_beat_s(self) -> float:
        return time.monotonic() - self._beat_s

    def _look_on(self) -> None:
        while self._fatal is None:
            # When this thread does not come round either, only code below Python is left to act.
            faulthandler.dump_traceback_later(
                self._loop.limit_s + self._exit_after_s + ASLEEP_S, exit=True
            )
            self._look()
            time.sleep(LOOK_S)
        faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s > ASLEEP_S:
            self._awake_s = now_s
        self._looked_s = now_s
        for watch in self._watches:
            stuck_s = min(watch.stuck_s(), now_s - self._awake_s)
            if stuck_s < watch.limit_s:
                self._goes_on(watch)
            else:
                self._stands(watch, stuck_s)

    def _goes_on(self, watch: Watch) -> None:
        if self._stalled.pop(watch.name, None) is None:
            return
        log.warning("stall_over", part=watch.name)
        if self._stalled:
            self._tell()
        else:
            self._readiness.meet(CONDITION)

    def _stands(self, watch: Watch, stuck_s: float) -> None:
        new = watch.name not in self._stalled
        self._stalled[watch.name] = f"{watch.name} has not moved for {stuck_s:.1f} s"
        self._tell()
        if new:
            STALLS.labels(watch.part).inc()
            log.error("stalled", part=watch.name, for_s=round(stuck_s, 1), stacks=stacks())
        if stuck_s >= watch.limit_s + self._exit_after_s:
            self._end(self._stalled[watch.name])

    def _tell(self) -> None:
        self._readiness.unmeet(CONDITION, "stalled: " + "; ".join(self._stalled.values()))

    def _end(self, reason: str) -> None:
        self._fatal = reason
        self._readiness.mark_failed(reason)
        log.error("ended_by_watchdog", reason=reason)
        self._grace.begin()
        if self._loop.name in self._stalled:
            sys.stderr.flush()
            os._exit(1)


def stacks() -> dict[str, list[str]]:
    """What every thread is at: by its name, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_stack(top)
        ]
        for ident, top in sys._current_frames().items()
    }
