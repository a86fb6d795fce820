"""How far behind Kafka a worker is, told at the moment of the scrape.

Owns, per topic and partition, what is known of the broker's end and what is
applied, and from it the gauges `headwater_oldest_unapplied_seconds` and
`headwater_offset_lag`. They are computed when they are scraped: the age of a
pending record keeps rising while its reader is stuck or paused, and is 0 when
nothing is pending. Fetching and applying are the caller's; so is asking the
broker for its end offsets while a topic is paused.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock

from .metrics import OFFSET_LAG, OLDEST_UNAPPLIED


def wall_ms() -> float:
    """Epoch milliseconds now: the clock that stamps Kafka's records."""
    return time.time() * 1e3


@dataclass(slots=True)
class _Partition:
    next_offset: int = 0
    end_offset: int = 0
    # When `end_offset` was last confirmed.
    end_seen_ms: float | None = None
    # Three answers to "when was the oldest pending record written", best first:
    # its record time, while the reader holds it;
    oldest_ms: float | None = None
    # a time before which it was not, records being stamped in order;
    floor_ms: float | None = None
    # when its existence was noticed.
    noticed_ms: float | None = None
    # Since when something is pending and nothing was applied.
    stands_since_s: float | None = None

    @property
    def lag(self) -> int:
        return max(self.end_offset - self.next_offset, 0)

    def pending_since_ms(self) -> float | None:
        """When the oldest pending record was written, as well as is known."""
        if not self.lag:
            return None
        answers = (self.oldest_ms, self.floor_ms, self.noticed_ms)
        return next((time_ms for time_ms in answers if time_ms is not None), None)

    def raise_floor(self, time_ms: float | None) -> None:
        if time_ms is not None and (self.floor_ms is None or time_ms > self.floor_ms):
            self.floor_ms = time_ms


class LagTracker:
    """What is pending on each partition; any thread may report and ask.

    A partition that starts from a stored offset is announced by
    `note_applied(topic, partition, next_offset, None)`; without that it starts
    at offset 0.

    Args:
        clock_ms: now, in epoch milliseconds.
        clock_s: seconds that nobody sets.
    """

    def __init__(
        self,
        clock_ms: Callable[[], float] = wall_ms,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock_ms = clock_ms
        self._clock_s = clock_s
        self._lock = Lock()
        self._topics: dict[str, dict[int, _Partition]] = {}

    def note_fetched(
        self, topic: str, partition: int, end_offset: int, oldest_ms: float | None = None
    ) -> None:
        """Report where the partition ends, as the broker told it just now.

        To be called for empty fetches too: they prove that nothing is pending.

        Args:
            topic: its name without the configured prefix.
            partition: its number.
            end_offset: the offset that the next record written would get.
            oldest_ms: record time of the oldest record that was fetched and is
                not applied yet, when the caller holds one.
        """
        now_ms = self._clock_ms()
        with self._lock:
            state = self._state(topic, partition)
            if not state.lag:
                # All that the last look showed is applied: whatever is pending
                # now was written after it.
                state.raise_floor(state.end_seen_ms)
                state.noticed_ms = now_ms
            if state.oldest_ms is None:
                state.oldest_ms = oldest_ms
            state.end_offset = max(state.end_offset, end_offset)
            state.end_seen_ms = now_ms
            if state.lag and state.stands_since_s is None:
                state.stands_since_s = self._clock_s()

    def note_end(self, topic: str, partition: int, end_offset: int) -> None:
        """Report where a partition ends, unless it is one that this worker does not read."""
        if partition in self.lag(topic):
            self.note_fetched(topic, partition, end_offset)

    def note_applied(
        self, topic: str, partition: int, next_offset: int, record_ms: float | None
    ) -> None:
        """Report that everything before `next_offset` is applied.

        Args:
            topic: its name without the configured prefix.
            partition: its number.
            next_offset: the reader's position, which passes over the offsets
                that compaction and transactions leave empty.
            record_ms: record time of the last applied record; None for a
                position that was restored rather than reached.
        """
        with self._lock:
            state = self._state(topic, partition)
            if next_offset > state.next_offset:
                state.stands_since_s = self._clock_s()
            state.next_offset = max(state.next_offset, next_offset)
            if not state.lag:
                state.stands_since_s = None
            state.oldest_ms = None
            state.raise_floor(record_ms)

    def forget(self, topic: str, partition: int) -> None:
        """Stop reporting a partition that this worker no longer reads."""
        with self._lock:
            partitions = self._topics.get(topic, {})
            if partitions.pop(partition, None) is None:
                return
            OFFSET_LAG.remove(topic, str(partition))
            if not partitions:
                del self._topics[topic]
                OLDEST_UNAPPLIED.remove(topic)

    def lag(self, topic: str) -> dict[int, int]:
        """Offsets that are not applied yet, by partition; empty if unknown."""
        with self._lock:
            return {p: state.lag for p, state in self._topics.get(topic, {}).items()}

    def standing_s(self, topic: str) -> float:
        """For how long a partition has not moved though records are pending; 0 if all do."""
        now_s = self._clock_s()
        with self._lock:
            states = self._topics.get(topic, {}).values()
            return max((now_s - s.stands_since_s for s in states if s.stands_since_s), default=0.0)

    def oldest_unapplied_s(self, topic: str) -> float:
        """Age in seconds of the topic's oldest pending record; 0 if none is."""
        now_ms = self._clock_ms()
        with self._lock:
            states = self._topics.get(topic, {}).values()
            pending = [since for s in states if (since := s.pending_since_ms()) is not None]
        return max(now_ms - min(pending), 0.0) / 1e3 if pending else 0.0

    def _offset_lag(self, topic: str, partition: int) -> float:
        return float(self.lag(topic).get(partition, 0))

    def _state(self, topic: str, partition: int) -> _Partition:
        """The partition's state; the first mention makes its gauges appear."""
        if topic not in self._topics:
            OLDEST_UNAPPLIED.labels(topic).set_function(partial(self.oldest_unapplied_s, topic))
        partitions = self._topics.setdefault(topic, {})
        if partition not in partitions:
            partitions[partition] = _Partition()
            OFFSET_LAG.labels(topic, str(partition)).set_function(
                partial(self._offset_lag, topic, partition)
            )
        return partitions[partition]
