"""What becomes of the records of one topic, on the intake thread.

Owns the decoding and applying of `ads`, `ads-control` and `user-events`, each as two steps:
`decode` sorts a batch into records and rejected messages, `apply` makes the records visible
together with the batch's next offsets. Promises that neither step raises for bad input. Reading,
dead letters and the order of the steps are ingest's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from gpuindex import AdBatch
from monitoring.metrics import (
    AD_FRESHNESS,
    RECORDS_APPLIED,
    RECORDS_MISPLACED,
    RECORDS_SKIPPED,
)
from stream.codec import Message, decode_ad, decode_control, decode_event
from stream.errors import Rejected
from stream.formats import Format
from stream.histories import HistoryStore
from stream.records import ClockTick, ControlChange, EventRecord
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

from .clock import Clock, wall_ms
from .index_writer import IndexWriter
from .models import Models
from .scanning.ads import AdScan
from .translate import AdColumns, delivery_batch

Record = TypeVar("Record")
Content = TypeVar("Content")


@dataclass(frozen=True)
class Batch(Generic[Content]):
    """A decoded batch.

    Attributes:
        content: what can be applied, in arrival order.
        written_ms: record time of each record in `content`, epoch ms.
        rejected: what cannot, with the reason.
        unknown_keys: how many keys of the records nobody knows.
        fetched_ms: when the batch came from Kafka, epoch ms.
        decoded_ms: when it was decoded.
    """

    content: Content
    written_ms: list[int]
    rejected: list[tuple[Message, Rejected]]
    unknown_keys: int
    fetched_ms: int
    decoded_ms: int


class Applier(Protocol[Content]):
    """Decodes and applies one topic."""

    topic: str

    def decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[Content]:
        """Sort messages into records and rejected ones; changes nothing that can be seen."""

    def apply(self, batch: Batch[Content], next_offsets: Mapping[int, int]) -> None:
        """Make the records visible; `next_offsets` say where reading goes on after them."""


def _decode(
    decode: Callable[[Message, Counter[str]], Record],
    messages: Sequence[Message],
    fetched_ms: int,
    take: Callable[[Record], None],
    content: Callable[[], Content],
) -> Batch[Content]:
    """Decode messages one by one.

    Args:
        decode: raises Rejected.
        messages, fetched_ms: the batch.
        take: told each record.
        content: asked in the end for what was made of them.
    """
    unknown: Counter[str] = Counter()
    written_ms: list[int] = []
    rejected: list[tuple[Message, Rejected]] = []
    for message in messages:
        try:
            take(decode(message, unknown))
            written_ms.append(message.timestamp)
        except Rejected as error:
            rejected.append((message, error))
    made = content()
    return Batch(made, written_ms, rejected, unknown.total(), fetched_ms, wall_ms())


def _decode_all(
    decode: Callable[[Message, Counter[str]], Record],
    messages: Sequence[Message],
    fetched_ms: int,
) -> Batch[list[Record]]:
    """Decode messages into a list of records."""
    records: list[Record] = []
    return _decode(decode, messages, fetched_ms, records.append, lambda: records)


class AdsApplier:
    """`ads`: upserts and deletes enter the index together with their embeddings."""

    topic = ADS

    def __init__(self, writer: IndexWriter, models: Models, default: Format) -> None:
        self._writer = writer
        self._models = models
        self._default = default
        self._scan = AdScan(writer.features, models, default)

    def decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[AdBatch]:
        """Read ads and deletions, and embed them; features never seen before are numbered."""
        scanned, places = self._scan.read(messages)
        if len(places) == len(messages):
            written_ms = [message.timestamp for message in messages]
            return Batch(scanned, written_ms, [], 0, fetched_ms, wall_ms())
        left = np.delete(np.arange(len(messages)), places).tolist()
        columns = AdColumns(self._writer.features, self._models)
        decode = partial(decode_ad, default=self._default)
        rest = [messages[place] for place in left]
        others = _decode(decode, rest, fetched_ms, columns.add, columns.batch)
        if not len(places):
            return others
        rejected = {id(message) for message, _ in others.rejected}
        kept = [place for place in left if id(messages[place]) not in rejected]
        order = np.argsort(np.concatenate((places, np.array(kept, np.int64))))
        return replace(
            others,
            content=AdBatch.joined([scanned, others.content], order),
            written_ms=[messages[place].timestamp for place in sorted((*places.tolist(), *kept))],
        )

    def apply(self, batch: Batch[AdBatch], next_offsets: Mapping[int, int]) -> None:
        """Upsert, delete, publish, and say how fresh that was."""
        applied = self._writer.apply_ads(batch.content, next_offsets)
        RECORDS_APPLIED.labels(self.topic).inc(applied.applied)
        RECORDS_SKIPPED.labels(self.topic, "version").inc(applied.skipped)
        _observe_freshness(batch)


def _observe_freshness(batch: Batch[AdBatch]) -> None:
    """Say how fresh the ads of a batch are that was published just now."""
    written_ms = np.array(batch.written_ms, np.int64)[~batch.content.deleted]
    fetched_ms, decoded_ms, now_ms = batch.fetched_ms, batch.decoded_ms, wall_ms()
    none_ms = np.zeros_like(written_ms)
    spans_ms = {
        "broker": fetched_ms - written_ms,
        "intake": none_ms + (decoded_ms - fetched_ms),
        "apply": none_ms + (now_ms - decoded_ms),
        "total": now_ms - written_ms,
    }
    for stage, span_ms in spans_ms.items():
        # A producer's clock may be ahead; a sum must never fall.
        AD_FRESHNESS.observe_all(stage, np.maximum(span_ms, 0) / 1e3)


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
    ) -> Batch[list[ControlChange | ClockTick]]:
        """Read delivery states and clock records."""
        return _decode_all(partial(decode_control, default=self._default), messages, fetched_ms)

    def apply(
        self, batch: Batch[list[ControlChange | ClockTick]], next_offsets: Mapping[int, int]
    ) -> None:
        """Apply the states, publish, then move the clock: a flight never begins without them."""
        changes = [record for record in batch.content if isinstance(record, ControlChange)]
        ticks = [record.time_ms for record in batch.content if isinstance(record, ClockTick)]
        applied = self._writer.apply_deliveries(delivery_batch(changes, self._models), next_offsets)
        if ticks:
            self._clock.advance(max(ticks))
        RECORDS_APPLIED.labels(self.topic).inc(applied.applied + len(ticks))
        RECORDS_SKIPPED.labels(self.topic, "version").inc(applied.skipped)


class EventsApplier:
    """`user-events`: the users' histories.

    Args:
        store: the histories.
        clock: what events of the future are held against.
        default: the format of records whose headers name none.
        erased: told how many users a batch has erased, if any.
    """

    topic = USER_EVENTS

    def __init__(
        self, store: HistoryStore, clock: Clock, default: Format, erased: Callable[[int], None]
    ) -> None:
        self._store = store
        self._erased = erased
        self._clock = clock
        self._default = default

    def decode(self, messages: Sequence[Message], fetched_ms: int) -> Batch[list[EventRecord]]:
        """Read events; those of the future are held against the worker's clock."""
        now_ms = self._clock.now_ms()
        return _decode_all(
            lambda message, unknown: decode_event(message, now_ms, unknown, self._default),
            messages,
            fetched_ms,
        )

    def apply(self, batch: Batch[list[EventRecord]], next_offsets: Mapping[int, int]) -> None:
        """Store the events and the offsets, and erase users, in one write."""
        applied = self._store.apply(batch.content, next_offsets)
        RECORDS_APPLIED.labels(self.topic).inc(applied.applied + applied.erased)
        RECORDS_SKIPPED.labels(self.topic, "erased").inc(applied.skipped)
        RECORDS_MISPLACED.labels(self.topic).inc(applied.misplaced)
        if applied.erased:
            self._erased(applied.erased)
