"""The replay: a recording goes out to Kafka in order of event time, at a chosen speed.

Owns the simulated time: what is due, when, and the `_clock` records that tell the workers. Promises
that everything before t is acknowledged when `until(t)` returns, and that the next call goes on
from there. What the records say is the recording's part.

Each simulated hour ends with its events sent, then the changes of the ads at its end, then the
clock: so the clock never runs ahead of what it stands for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from stream.codec import CLOCK_KEY, encode_tick
from stream.publish import Outgoing, Publisher
from stream.records import ClockTick
from stream.settings import Kafka
from stream.topics import ADS_CONTROL

HOUR_MS: Final = 3_600_000
# At a speed, events go out in portions that follow each other by this time: all of an hour's at
# once would be bursts, not a stream.
PORTION_S: Final = 0.1
# Large enough that waiting for the broker after each portion costs nothing.
_PAST_PORTION_MS: Final = 168 * HOUR_MS


class Recording(Protocol):
    """What can be replayed."""

    @property
    def first_ms(self) -> int:
        """The time of the first event."""

    @property
    def start_ms(self) -> int:
        """Where the replay begins; everything earlier is the past, and loaded at once."""

    @property
    def end_ms(self) -> int:
        """Where it ends."""

    def events(self, from_ms: int, until_ms: int) -> Iterable[Outgoing]:
        """The events from a time until before another, oldest first."""

    def ad_changes(self, time_ms: int) -> Iterable[Outgoing]:
        """What happens to ads at a time: at most times, nothing."""


@dataclass
class Progress:
    """How far one call of `until` has come.

    Attributes:
        time_ms: everything before this time has been sent.
        records: how many, by topic as on the cluster.
        seconds: since the call began.
    """

    time_ms: int
    records: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def records_per_s(self) -> float:
        """The mean over all topics and the whole call."""
        return self.records.total() / self.seconds if self.seconds else 0.0


class Replay:
    """A recording on its way into Kafka, one stretch of time after the other."""

    def __init__(
        self, kafka: Kafka, publisher: Publisher, recording: Recording, speed: float | None = None
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            kafka: names the topics; they must exist.
            publisher: started, and stopped by the caller; others may use it too.
            recording: what to send.
            speed: simulated seconds per second, above 0; None never waits.
        """
        self._publisher = publisher
        self._recording = recording
        self._speed = speed
        self._control_topic = kafka.topic(ADS_CONTROL)
        self._began = False
        self._time_ms = recording.first_ms

    @property
    def time_ms(self) -> int:
        """Everything before this time has been sent."""
        return self._time_ms

    @property
    def start_ms(self) -> int:
        """What is earlier is the past, and sent at once."""
        return self._recording.start_ms

    async def until(
        self, time_ms: int, report: Callable[[Progress], None] = lambda _: None
    ) -> Progress:
        """Send what comes before a time, and what changes at it; the clock then stands there.

        The first call begins with the past, without waiting, and the ads of the recording's start.

        Args:
            time_ms: not before the last call's, nor outside the recording.
            report: called now and then, and at the end.

        Raises:
            ValueError: `time_ms` is out of that range.
            PublishFailed: Kafka did not take a record; calling again sends the stretch again.
        """
        begin_ms = self._time_ms if self._began else self._recording.start_ms
        if not begin_ms <= time_ms <= self._recording.end_ms:
            raise ValueError(
                f"until {time_ms} ms: allowed are {begin_ms} to {self._recording.end_ms} ms"
            )
        stretch = _Stretch(self._publisher, self._control_topic, report)
        if not self._began:
            await self._load_past(stretch)
        paced_from_s = time.monotonic()
        for from_ms, until_ms in _portions(begin_ms, time_ms, self._portion_ms()):
            if self._speed is not None:
                due_s = paced_from_s + (until_ms - begin_ms) / 1000 / self._speed
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await stretch.send(self._recording.events(from_ms, until_ms))
            if until_ms % HOUR_MS == 0 or until_ms == time_ms:
                await stretch.send(self._recording.ad_changes(until_ms))
                await stretch.tick(until_ms)
            stretch.arrive(until_ms)
        stretch.arrive(time_ms)
        self._began, self._time_ms = True, time_ms
        return stretch.progress

    async def _load_past(self, stretch: _Stretch) -> None:
        """Send all that came before the start, and the ads of the start.

        The clock comes first, and alone: a worker whose clock stood before the past would refuse
        it as the future.
        """
        start_ms = self._recording.start_ms
        await stretch.tick(start_ms)
        for from_ms, until_ms in _portions(self._recording.first_ms, start_ms, _PAST_PORTION_MS):
            await stretch.send(self._recording.events(from_ms, until_ms))
            stretch.arrive(until_ms)
        await stretch.send(self._recording.ad_changes(start_ms))

    def _portion_ms(self) -> int:
        if self._speed is None:
            return HOUR_MS
        return max(1, min(HOUR_MS, round(self._speed * PORTION_S * 1000)))


class _Stretch:
    """The sending of one stretch: records out, counted and reported."""

    def __init__(
        self, publisher: Publisher, control_topic: str, report: Callable[[Progress], None]
    ) -> None:
        self.progress = Progress(0)
        self._publisher = publisher
        self._control_topic = control_topic
        self._report = report
        self._began_s = time.monotonic()

    async def send(self, records: Iterable[Outgoing]) -> None:
        """Send records in order; the broker has them at return."""
        await self._publisher.send_all(self._counted(records))

    async def tick(self, time_ms: int) -> None:
        """Set the workers' clock, on every partition because each is read at its own pace."""
        value = encode_tick(ClockTick(time_ms))
        for partition in await self._publisher.partitions(self._control_topic):
            await self._publisher.send(self._control_topic, CLOCK_KEY, value, partition=partition)
            self.progress.records[self._control_topic] += 1
        # What comes next must be later in the log, so that no reader sees a day without its clock.
        await self._publisher.flush()

    def arrive(self, time_ms: int) -> None:
        """Note and report how far it has come."""
        self.progress.time_ms = time_ms
        self.progress.seconds = time.monotonic() - self._began_s
        self._report(self.progress)

    def _counted(self, records: Iterable[Outgoing]) -> Iterator[Outgoing]:
        counts = self.progress.records
        for record in records:
            counts[record[0]] += 1
            yield record


def _portions(from_ms: int, until_ms: int, step_ms: int) -> Iterator[tuple[int, int]]:
    """Consecutive times from one to another; steps up to an hour long stop at every full hour."""
    while from_ms < until_ms:
        next_ms = min(from_ms + step_ms, until_ms)
        if step_ms <= HOUR_MS:
            next_ms = min(next_ms, (from_ms // HOUR_MS + 1) * HOUR_MS)
        yield from_ms, next_ms
        from_ms = next_ms
