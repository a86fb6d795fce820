"""Whether a worker has started, lives, and takes requests, and why not.

Owns the named conditions of readiness. Promises that a worker is ready only
while every one of them holds, and that an unmet one always says why. Who
meets a condition, and what is done to a worker that is not alive, is decided
elsewhere.
"""

from collections.abc import Callable, Iterable
from threading import RLock

from .metrics import READY


class Readiness:
    """Named conditions, each met or unmet with a reason; any thread may ask.

    Args:
        conditions: the names, such as "index_caught_up"; all start unmet.
        changed: told, by the thread that changed it, when it becomes ready and when
            it ceases to be.
    """

    def __init__(
        self, conditions: Iterable[str], changed: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._lock = RLock()
        self._unmet = dict.fromkeys(conditions, "not reached yet")
        self._conditions = tuple(self._unmet)
        self._started = False
        self._failure: str | None = None
        self._stopping = False
        self._told = False
        self._changed = changed
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
        self._tell()

    def unmeet(self, condition: str, reason: str) -> None:
        """The condition does not hold, for this reason.

        Raises:
            KeyError: nobody declared it.
        """
        self._check(condition)
        with self._lock:
            self._unmet[condition] = reason
        self._tell()

    def mark_started(self) -> None:
        """Every kernel and model is loaded and warm; it stays started."""
        with self._lock:
            self._started = True
        self._tell()

    def mark_failed(self, reason: str) -> None:
        """The worker cannot go on and should be restarted; the first reason stays."""
        with self._lock:
            self._failure = self._failure or reason
        self._tell()

    def mark_stopping(self) -> None:
        """The worker ends in order: it is not ready any more, and answers what still comes."""
        with self._lock:
            self._stopping = True
        self._tell()

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

    def _tell(self) -> None:
        with self._lock:
            ready = self.ready
            news, self._told = ready != self._told, ready
        if news:
            self._changed(ready)

    def _check(self, condition: str) -> None:
        if condition not in self._conditions:
            raise KeyError(f"no condition {condition!r}; declared are {self._conditions}")
