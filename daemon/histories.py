"""Histories as the models read them: encoded once, kept while they do not change.

Owns a bounded cache of encoded histories above the store. Promises that a request sees every
event applied before it began. What is kept of a user, and how durably, is the store's decision.
"""

from __future__ import annotations

from collections import OrderedDict

from model.features import Encoder, History
from stream.histories import HistoryStore


class EncodedHistories:
    """Least recently used cache of users' encoded histories, for one thread (scoring)."""

    def __init__(self, store: HistoryStore, encoder: Encoder, max_users: int) -> None:
        self._store = store
        self._encoder = encoder
        self._max_users = max_users
        self._encoded: OrderedDict[int, tuple[int, History]] = OrderedDict()

    def read(self, user_id: int) -> History:
        """Return the user's history, oldest event first; empty for an unknown user."""
        # The count is read before the events: an event that arrives in between is encoded twice,
        # never missed.
        changes = self._store.change_count(user_id)
        known = self._encoded.get(user_id)
        if known is not None and known[0] == changes:
            self._encoded.move_to_end(user_id)
            return known[1]
        events = self._store.read(user_id)
        history = self._encoder.history(
            [(event.time_ms, event.action, event.value, event.features) for event in events]
        )
        self._encoded[user_id] = (changes, history)
        self._encoded.move_to_end(user_id)
        if len(self._encoded) > self._max_users:
            self._encoded.popitem(last=False)
        return history
