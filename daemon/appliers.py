"""What becomes of the records of one topic, on the intake thread.

Owns the decoding and applying of `ads`, `ads-control` and `user-events`, each as two steps:
`decode` sorts a batch into records and rejected messages, `apply` makes the records visible
together with the batch's next offsets. Promises that neither step raises for bad input. Reading,
dead letters and the order of the steps are ingest's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from monitoring.metrics import (
    AD_FRESHNESS,
    FRESHNESS_STAGES,
    RECORDS_APPLIED,
    RECORDS_SKIPPED,
)
from stream.codec import Message, decode_ad, decode_control, decode_event
from stream.errors import Rejected
from stream.formats import Format
from stream.histories import HistoryStore
from stream.records import AdChange, ClockTick, ControlChange, EventRecord
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

from .clock import Clock, wall_ms
from .index_writer import IndexWriter
from .models import Models
from .translate import ad_batch, delivery_batch

Record = TypeVar("Record")


@dataclass(frozen=True)
class Batch(Generic[Record]):
    """A decoded batch.

    Attributes:
        records: what can be applied, in arrival order.
        written_ms: record time of each of `records`, epoch ms.
        rejected: what cannot, with the reason.
        unknown_keys: how many keys of the records nobody knows.
        fetched_ms: when the batch came from Kafka, epoch ms.
        decoded_ms: when it was decoded.
    """

    records: list[Record]
    written_ms: list[int]
    rejected: list[tuple[Message, Rejected]]
    unknown_keys: int
    fetched_ms: int
    decoded_ms: int


class Applier(Protocol[Record]):
    """Decodes and applies one topic."""

    topic: str

    def decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[Record]:
        """Sort messages into records and rejected ones; no side effect."""

    def apply(self, batch: Batch[Record], next_offsets: Mapping[int, int]) -> None:
        """Make the records visible; `next_offsets` say where reading goes on after them."""


def _decode(
    decode: Callable[[Message, Counter[str]], Record],
    messages: Sequence[Message],
    fetched_ms: int,
) -> Batch[Record]:
    unknown: Counter[str] = Counter()
    records: list[Record] = []
    written_ms: list[int] = []
    rejected: list[tuple[Message, Rejected]] = []
    for message in messages:
        try:
            records.append(decode(message, unknown))
            written_ms.append(message.timestamp)
        except Rejected as error:
            rejected.append((message, error))
    return Batch(records, written_ms, rejected, unknown.total(), fetched_ms, wall_ms())


class AdsApplier:
    """`ads`: upserts and deletes enter the index together with their embeddings."""

    topic = ADS

    def __init__(self, writer: IndexWriter, models: Models, default: Format) -> None:
        self._writer = writer
        self._models = models
        self._default = default

    def decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[AdChange]:
        """Read ads and deletions."""
        return _decode(partial(decode_ad, default=self._default), messages, fetched_ms)

    def apply(self, batch: Batch[AdChange], next_offsets: Mapping[int, int]) -> None:
        """Embed, upsert, delete, publish, and say how fresh that was."""
        columns = ad_batch(batch.records, self._writer.features, self._models)
        applied = self._writer.apply_ads(columns, next_offsets)
        now_ms = wall_ms()
        RECORDS_APPLIED.labels(self.topic).inc(applied.applied)
        RECORDS_SKIPPED.labels(self.topic, "version").inc(applied.skipped)
        observe = [AD_FRESHNESS.labels(stage).observe for stage in FRESHNESS_STAGES]
        for change, written_ms in zip(batch.records, batch.written_ms, strict=True):
            if change.ad is None:
                continue
            moments_ms = (written_ms, batch.fetched_ms, batch.decoded_ms, now_ms)
            spans_ms = [later - earlier for earlier, later in pairwise(moments_ms)]
            for observed, span_ms in zip(observe, (*spans_ms, now_ms - written_ms), strict=True):
                # A producer's clock may be ahead; a sum must never fall.
                observed(max(span_ms, 0) / 1e3)


class ControlApplier:
    """`ads-control`: delivery states become columns, `_clock` records move the clock."""

    topic = ADS_CONTROL

    def __init__(self, writer: IndexWriter, models: Models, clock: Clock, default: Format) -> None:
        self._writer = writer
        self._models = models
        self._clock = clock
        self._default = default

    def decode(
        self, messages: Sequence[Message], fetched_ms: int
    ) -> Batch[ControlChange | ClockTick]:
        """Read delivery states and clock records."""
        return _decode(partial(decode_control, default=self._default), messages, fetched_ms)

    def apply(
        self, batch: Batch[ControlChange | ClockTick], next_offsets: Mapping[int, int]
    ) -> None:
        """Apply the states, publish, then move the clock: a flight never begins without them."""
        changes = [record for record in batch.records if isinstance(record, ControlChange)]
        ticks = [record.time_ms for record in batch.records if isinstance(record, ClockTick)]
        applied = self._writer.apply_deliveries(delivery_batch(changes, self._models), next_offsets)
        if ticks:
            self._clock.advance(max(ticks))
        RECORDS_APPLIED.labels(self.topic).inc(applied.applied + len(ticks))
        RECORDS_SKIPPED.labels(self.topic, "version").inc(applied.skipped)


class EventsApplier:
    """`user-events`: the users' histories."""

    topic = USER_EVENTS

    def __init__(self, store: HistoryStore, clock: Clock, default: Format) -> None:
        self._store = store
        self._clock = clock
        self._default = default

    def decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[EventRecord]:
        """Read events; those of the future are held against the worker's clock."""
        now_ms = self._clock.now_ms()
        return _decode(
            lambda message, unknown: decode_event(message, now_ms, unknown, self._default),
            messages,
            fetched_ms,
        )

    def apply(self, batch: Batch[EventRecord], next_offsets: Mapping[int, int]) -> None:
        """Store the events and the offsets in one write."""
        self._store.apply(batch.records, next_offsets)
        RECORDS_APPLIED.labels(self.topic).inc(len(batch.records))
