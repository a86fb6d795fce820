"""Histories as requests read them: without what has expired, and encoded once for the models.

Owns the moment from which events are too old, and a bounded memory of encoded histories above the
store. Promises that a request sees every event applied before it began and none that has expired,
and that what is kept in memory stays within its budget. What is kept of a user on disk, and how
durably, is the store's decision.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from model.features import Encoder, History
from monitoring.metrics import HISTORY_READS
from stream.histories import HistoryStore

from .clock import Clock

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
# Of an entry beside its arrays: objects, the dictionary's share.
ENTRY_BYTES = 1_000


class Expiry:
    """When an event is too old to count."""

    def __init__(self, clock: Clock, max_age_days: float) -> None:
        """0 days: never."""
        self._clock = clock
        self._max_age_ms = round(max_age_days * DAY_MS)

    def before_ms(self, now_ms: int = 0) -> int:
        """Events that are not later than this do not count for a request with this now.

        A request's now cannot bring back what the worker's clock has expired: whether that is still
        on disk would decide.
        """
        if not self._max_age_ms:
            return -1
        return max(now_ms, self._clock.now_ms()) - self._max_age_ms

    def deletable_ms(self) -> int:
        """Events that are not later than this can be deleted.

        It moves once an hour, so that all users are gone over once an hour at most.
        """
        return self.before_ms() // HOUR_MS * HOUR_MS


class _Encoded(NamedTuple):
    changes: int
    history: History

    @property
    def oldest_ms(self) -> int:
        """Time of the first event; the end of time without one."""
        times = self.history.time_ms
        return int(times[0]) if len(times) else 1 << 62

    @property
    def size_bytes(self) -> int:
        history = self.history
        arrays = (history.time_ms, history.actions, history.values, history.items)
        return ENTRY_BYTES + sum(array.nbytes for array in arrays)


class EncodedHistories:
    """Least recently used memory of users' encoded histories, for one thread (scoring).

    Args:
        store: the histories.
        encoder: the models'; without a model nothing is read.
        budget_bytes: what the memory may hold.
    """

    def __init__(self, store: HistoryStore, encoder: Encoder | None, budget_bytes: int) -> None:
        self._store = store
        self._encoder = encoder
        self._budget_bytes = budget_bytes
        self._encoded: OrderedDict[int, _Encoded] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the memory holds; any thread may ask."""
        return self._size_bytes

    def read(self, user_id: int, after_ms: int = -1) -> History:
        """The user's events later than `after_ms`, oldest first; empty for an unknown user."""
        # The count is read before the events: an event that arrives in between is encoded twice,
        # never missed.
        changes = self._store.change_count(user_id)
        known = self._encoded.get(user_id)
        if known is not None and known.changes == changes:
            HISTORY_READS.labels("hit").inc()
            self._encoded.move_to_end(user_id)
        else:
            HISTORY_READS.labels("miss").inc()
            known = self._encode(user_id, changes)
        if known.oldest_ms > after_ms:
            return known.history
        return known.history.after(after_ms)

    def forget_changed(self) -> None:
        """Drop what is not any more as it was encoded, such as the history of an erased user."""
        changed = [
            user_id
            for user_id, encoded in self._encoded.items()
            if encoded.changes != self._store.change_count(user_id)
        ]
        for user_id in changed:
            self._drop(user_id)

    def _encode(self, user_id: int, changes: int) -> _Encoded:
        assert self._encoder is not None, "there is no model to read for"
        events = self._store.read(user_id)
        history = self._encoder.history(
            [(event.time_ms, event.action, event.value, event.features) for event in events]
        )
        encoded = _Encoded(changes, history)
        self._drop(user_id)
        self._encoded[user_id] = encoded
        self._size_bytes += encoded.size_bytes
        while self._size_bytes > self._budget_bytes:
            self._drop(next(iter(self._encoded)))
        return encoded

    def _drop(self, user_id: int) -> None:
        dropped = self._encoded.pop(user_id, None)
        if dropped is not None:
            self._size_bytes -= dropped.size_bytes
