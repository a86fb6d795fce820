"""Since when a thread is busy with one call: what tells a stall from work.

Owns one moment. Any thread may ask.
"""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Activity:
    """What one thread is at; it makes every call through `run`."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def run(
        self,
        call: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Make the call on the thread that runs this."""
        self._since_s = time.monotonic()
        try:
            return call(*args, **kwargs)
        finally:
            self._since_s = None

    def busy_s(self) -> float:
        """How long the call that runs now has been running; 0 between calls."""
        since_s = self._since_s
        return 0.0 if since_s is None else time.monotonic() - since_s
