"""Departures: users who were erased, or whose partition moved to another worker.

Owns the cleaning up after them. Promises that soon after they left nothing of them is in this
worker's memory and files, and that `user-histories` has a marker of everybody who was erased.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from monitoring.metrics import USERS_ERASED
from stream.histories import HistoryStore

from .checkpoints import Checkpoints


class Departures:
    """Cleaning up after users who were erased or whose partition moved.

    Args:
        store: the histories.
        checkpoints: of this worker.
        forget: drops what caches hold of users who have changed.
    """

    def __init__(
        self, store: HistoryStore, checkpoints: Checkpoints, forget: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._checkpoints = checkpoints
        self._forget = forget
        self._noted = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def note(self, erased: int = 0) -> None:
        """Users have left; any thread may say so."""
        USERS_ERASED.inc(erased)
        self._loop.call_soon_threadsafe(self._noted.set)

    async def run(self) -> NoReturn:
        """Clean up whenever users have left."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            await self.clean()

    async def clean(self) -> None:
        """Empty caches, rewrite files and write markers, so that nothing is left."""
        await self._forget()
        await asyncio.to_thread(self._store.scrub)
        await self._checkpoints.write_all()
