"""The ingest loop of every topic, wired.

Owns which applier, policy and upkeep each topic has, and their readers. Promises the loops in the
order in which they must catch up: delivery states and the clock come first, so that no ad is served
for a moment that its pause covers, and no event is held against a clock that has not been read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from monitoring.freshness import LagTracker
from monitoring.health import Readiness
from stream.formats import FORMATS
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL

from .applied import Applied
from .appliers import AdsApplier, Applier, ControlApplier, EventsApplier
from .clock import Clock
from .histories import Expiry
from .ingest import IngestLoop, IntakeThread
from .origin import Origin
from .rejections import Policy, Rejections
from .settings import Settings
from .state import State

# Users looked at between two batches of events: no more than a few milliseconds' work, when all of
# them have full histories.
EXPIRED_AT_ONCE = 4


@dataclass(frozen=True)
class Loops:
    """What the loops have in common."""

    kafka: Kafka
    origin: Origin
    settings: Settings
    readiness: Readiness
    thread: IntakeThread
    lag: LagTracker
    applied: Applied
    clock: Clock
    publisher: Publisher
    readers: list[TopicReader] = field(default_factory=list)

    async def start(
        self,
        state: State,
        events_reader: TopicReader,
        expiry: Expiry,
        erased: Callable[[int], None],
    ) -> list[IngestLoop[Any]]:
        """A loop with a started reader for each topic, in the order in which they catch up.

        Args:
            state: what they write.
            events_reader: of `user-events`; follows no partition yet.
            expiry: of events.
            erased: told how many users a batch has erased, if any.
        """
        formats, policies = self.settings.formats, self.settings.deadletters
        models, writer, store = state.models, state.writer, state.store

        def reader(topic: str) -> TopicReader:
            name = self.kafka.topic(topic)
            return TopicReader(self.kafka, [name], {name: writer.next_offsets(topic)})

        control = await self._start(
            ControlApplier(writer, models, self.clock, FORMATS[formats.ads_control]),
            policies.ads_control,
            reader(ADS_CONTROL),
        )
        ads = await self._start(
            AdsApplier(writer, models, FORMATS[formats.ads]),
            policies.ads,
            reader(ADS),
            upkeep=writer.maintain,
        )
        events = await self._start(
            EventsApplier(store, self.clock, FORMATS[formats.user_events], erased),
            policies.user_events,
            events_reader,
            upkeep=lambda: store.expire(expiry.deletable_ms(), EXPIRED_AT_ONCE) > 0,
            clock_caught_up=control.caught_up if self.clock.mode == "replay" else None,
        )
        return [control, ads, events]

    async def stop(self) -> None:
        """Disconnect the readers."""
        await asyncio.gather(*(reader.stop() for reader in self.readers))

    async def _start(
        self, applier: Applier[Any], policy: Policy, reader: TopicReader, **more: Any
    ) -> IngestLoop[Any]:
        await reader.start()
        self.readers.append(reader)
        return IngestLoop(
            reader,
            applier,
            Rejections(applier.topic, policy, self.publisher, self.origin.source(applier.topic)),
            self.thread,
            self.lag,
            self.applied,
            self.settings.intake,
            blocked=partial(self.readiness.unmeet, applier.topic),
            **more,
        )
