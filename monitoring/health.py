"""Whether a worker has started, lives, and takes requests, and why not.

Owns the named conditions of readiness. Promises that a worker is ready only
while every one of them holds, and that an unmet one always says why. Who
meets a condition, and what is done to a worker that is not alive, is decided
elsewhere.
"""

from collections.abc import Iterable
from threading import Lock

from .metrics import READY


class Readiness:
    """Named conditions, each met or unmet with a reason; any thread may ask.

    Args:
        conditions: the names, such as "index_caught_up"; all start unmet.
    """

    def __init__(self, conditions: Iterable[str]) -> None:
        self._lock = Lock()
        self._unmet = dict.fromkeys(conditions, "not reached yet")
        self._conditions = tuple(self._unmet)
        self._started = False
        self._failure: str | None = None
        self._stopping = False
        READY.set_function(lambda: float(self.ready))

    @property
    def conditions(self) -> tuple[str, ...]:
        """All names, in the order they were given."""
        return self._conditions

    def meet(self, condition: str) -> None:
        """The condition holds from now on.

        Raises:
            KeyError: nobody declared it.
        """
        self._check(condition)
        with self._lock:
            self._unmet.pop(condition, None)

    def unmeet(self, condition: str, reason: str) -> None:
        """The condition does not hold, for this reason.

        Raises:
            KeyError: nobody declared it.
        """
        self._check(condition)
        with self._lock:
            self._unmet[condition] = reason

    def mark_started(self) -> None:
        """Every kernel and model is loaded and warm; it stays started."""
        with self._lock:
            self._started = True

    def mark_failed(self, reason: str) -> None:
        """The worker cannot go on and should be restarted; the first reason stays."""
        with self._lock:
            self._failure = self._failure or reason

    def mark_stopping(self) -> None:
        """The worker ends in order: it is not ready any more, and answers what still comes."""
        with self._lock:
            self._stopping = True

    @property
    def ready(self) -> bool:
        """Started, alive, every condition holds, and it goes on."""
        return self.serving and not self._stopping

    @property
    def serving(self) -> bool:
        """Whether a request that comes is answered: as `ready`, also while the worker stops."""
        with self._lock:
            return self._started and self._failure is None and not self._unmet

    @property
    def started(self) -> bool:
        """Whether the worker has warmed up."""
        with self._lock:
            return self._started

    @property
    def failure(self) -> str | None:
        """Why the worker is not alive; None while it is."""
        with self._lock:
            return self._failure

    def reasons(self) -> dict[str, str]:
        """Why the worker is not ready: {condition: reason}, empty when it is."""
        with self._lock:
            reasons = {name: self._unmet[name] for name in self._conditions if name in self._unmet}
            if not self._started:
                reasons["started"] = "warming up"
            if self._stopping:
                reasons["stopping"] = "the worker ends"
            if self._failure is not None:
                reasons["alive"] = self._failure
            return reasons

    def _check(self, condition: str) -> None:
        if condition not in self._conditions:
            raise KeyError(f"no condition {condition!r}; declared are {self._conditions}")
