"""Knowing when everything that was published has arrived in a worker."""

from __future__ import annotations

import asyncio
import time

from stream.reader import TopicReader
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

from ..client import WorkerClient
from ..failure import Failed

TOPICS = (ADS, ADS_CONTROL, USER_EVENTS)
DEADLINE_S = 600.0
POLL_S = 0.02


class Arrival:
    """Compares the ends of the topics with the offsets that a worker says it has applied."""

    def __init__(self, kafka: Kafka, client: WorkerClient) -> None:
        self._kafka = kafka
        self._client = client
        self._reader = TopicReader(kafka, [kafka.topic(topic) for topic in TOPICS])

    async def __aenter__(self) -> Arrival:
        await self._reader.start()
        for topic in TOPICS:
            # Only the ends are asked for: the records are the worker's to read.
            self._reader.pause(self._kafka.topic(topic))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._reader.stop()

    async def wait(self) -> float:
        """Wait until all that is on the topics now is applied; returns the seconds that took."""
        began = time.monotonic()
        ends = await self._reader.end_offsets()
        while pending := await self._pending(ends):
            if time.monotonic() > began + DEADLINE_S:
                raise Failed(f"{pending} records are not applied after {DEADLINE_S} s")
            await asyncio.sleep(POLL_S)
        return time.monotonic() - began

    async def _pending(self, ends: dict[str, dict[int, int]]) -> int:
        applied = (await self._client.get("/v1/status"))["offsets"]
        return sum(
            max(end - applied.get(topic, {}).get(str(partition), 0), 0)
            for topic in TOPICS
            for partition, end in ends[self._kafka.topic(topic)].items()
        )
