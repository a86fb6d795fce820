"""The time in which a process that is to end may do so in order.

Owns the end when that time is over: whatever hangs then, the process is gone. What ends in order,
and how, is the worker's part.
"""

from __future__ import annotations

import os
import sys
import threading

import structlog

log = structlog.get_logger(__name__)


class Grace:
    """Begins once; the first to begin it counts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = threading.Event()

    def begin(self) -> None:
        """From now on the process has that many seconds left; any thread may say so."""
        if not self._begun.is_set():
            self._begun.set()
            timer = threading.Timer(self._seconds, self._end)
            timer.daemon = True
            timer.start()

    def _end(self) -> None:
        log.error("grace_time_over", after_s=self._seconds)
        sys.stderr.flush()
        os._exit(1)
