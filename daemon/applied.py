"""How far the worker's state is, and waiting until it is far enough.

Owns, for every topic that is ingested, the next offsets not yet applied and when the broker last
told its ends. Promises that a request which asks for a state waits until that state is there and no
longer than it may, and then says what is missing. Who applies and who reports is `ingest`'s part.
All but `has` runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from monitoring.freshness import LagTracker
from stream.reader import FETCH_MAX_WAIT_MS
from stream.records import ScoreRequest

from .clock import wall_ms
from .scoring import RequestRefused

Offsets = Mapping[str, Mapping[int, int]]


class Applied:
    """What the ingest loops have applied so far."""

    def __init__(self, lag: LagTracker) -> None:
        self._lag = lag
        self._next_offsets: dict[str, dict[int, int]] = {}
        self._heard_ms: dict[str, float] = {}
        self._progress = asyncio.Condition()
        self._closed: str | None = None

    def begin(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        """A loop is about to read these partitions of `topic`, from these offsets on."""
        self._next_offsets[topic] = dict(next_offsets)
        self._heard_ms[topic] = 0.0

    async def note(self, topic: str, next_offsets: Mapping[int, int], heard_ms: float) -> None:
        """Everything before `next_offsets` is applied.

        Args:
            topic: its name without the prefix.
            next_offsets: by partition.
            heard_ms: when the broker told the ends up to which `topic` was read, epoch ms.
        """
        async with self._progress:
            self._next_offsets[topic].update(next_offsets)
            self._heard_ms[topic] = heard_ms
            self._progress.notify_all()

    async def close(self, reason: str) -> None:
        """Nothing will be applied any more: whoever waits in `satisfy` is refused."""
        async with self._progress:
            self._closed = reason
            self._progress.notify_all()

    async def reach(self, next_offsets: Offsets) -> None:
        """Wait until everything before `next_offsets` is applied, however long that takes."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._missing(next_offsets) is None)

    def left(self, next_offsets: Offsets) -> int:
        """How many offsets before `next_offsets` are not applied."""
        return sum(
            max(offset - self._next_offsets[topic][partition], 0)
            for topic, wanted in next_offsets.items()
            for partition, offset in wanted.items()
        )

    def has(self, request: ScoreRequest) -> bool:
        """Whether the state that `request` asks for is there; any thread may ask."""
        return self._unread(request) is None and self._lacking(request) is None

    async def satisfy(self, request: ScoreRequest, timeout_s: float) -> None:
        """Wait for the state that `request` asks for.

        Raises:
            RequestRefused: it is not there in time, or names a partition that does not exist.
        """
        if (unread := self._unread(request)) is not None:
            raise RequestRefused("invalid_field", f"min_offsets: {unread}")
        if self._lacking(request) is None:
            return
        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(
                    lambda: self._closed is not None or self._lacking(request) is None
                )
        except TimeoutError:
            # What came in the last moment counts: then there is nothing to complain about.
            if (lacking := self._lacking(request)) is not None:
                raise RequestRefused("stale", lacking) from None
        if self._closed is not None and (lacking := self._lacking(request)) is not None:
            raise RequestRefused("not_ready", f"{self._closed}, and {lacking}")

    def staleness_ms(self, topic: str) -> float:
        """How long a record may have been on `topic` without being part of the state.

        The age of the oldest record that is known and not applied; or the broker's silence, beyond
        the time for which a fetch that finds nothing is held.
        """
        silence_ms = wall_ms() - self._heard_ms[topic] - FETCH_MAX_WAIT_MS
        return max(self._lag.oldest_unapplied_s(topic) * 1e3, silence_ms, 0.0)

    def _unread(self, request: ScoreRequest) -> str | None:
        """What `request` names and no loop reads; None if there is no such thing."""
        for topic, wanted in request.min_offsets.items():
            for partition in wanted:
                if partition not in self._next_offsets.get(topic, {}):
                    return f"this worker reads no {topic} partition {partition}"
        return None

    def _lacking(self, request: ScoreRequest) -> str | None:
        """Why the state is not yet as the request wants it; None when it is."""
        limit_ms = request.max_staleness_ms
        if limit_ms is not None:
            for topic in self._next_offsets:
                age_ms = self.staleness_ms(topic)
                if age_ms > limit_ms:
                    return f"{topic} may be {age_ms:.0f} ms behind, more than {limit_ms} ms"
        return self._missing(request.min_offsets)

    def _missing(self, next_offsets: Offsets) -> str | None:
        for topic, wanted in next_offsets.items():
            applied = self._next_offsets[topic]
            for partition, offset in wanted.items():
                # A partition that moved away meanwhile is not read here any more.
                at = applied.get(partition)
                if at is None or at < offset:
                    return (
                        f"{topic} partition {partition} is applied up to offset {at}, not {offset}"
                    )
        return None
