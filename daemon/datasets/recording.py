"""The recording of anybody's data: events and ads of a column map as records for Kafka.

Owns what their records look like. Promises every event once, in order of time, under an id that
does not change; and every ad with its flight before the flight begins. When they are sent is
`daemon.replay`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from model.schema import Schema
from stream.codec import encode_ad, encode_delivery, encode_event, encode_id
from stream.publish import Outgoing
from stream.records import MAX_TIME_MS, Ad, Delivery, UserEvent
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, USER_EVENTS

from ..failure import Failed
from . import parquet
from .mapping import DataMap

# What an ad's record has beside its features.
_OWNERS = ("advertiser", "campaign")
_PORTION = 4_096


class MappedRecording:
    """A data set that is sent whole: what lies before its start at once."""

    def __init__(self, kafka: Kafka, data: DataMap, start_ms: int | None = None) -> None:
        """Read the data.

        Args:
            kafka: names the topics.
            data: which data.
            start_ms: where the replay begins; by default at the end, so that all is the past.

        Raises:
            Failed: the data cannot be read, or has no event.
            ValueError: the start is not within it.
        """
        self._events = parquet.events(data)
        self._ads = parquet.ads(data)
        if not self._events.num_rows:
            raise Failed(f"{data.folder / data.rows.events.files}: there is no event")
        self._times_ms = self._events["time_ms"].to_numpy()
        self._schema = data.fields
        self._ads_topic, self._control_topic = kafka.topic(ADS), kafka.topic(ADS_CONTROL)
        self._events_topic = kafka.topic(USER_EVENTS)
        self.first_ms = int(self._times_ms[0])
        self.end_ms = int(self._times_ms[-1]) + 1
        self.start_ms = self.end_ms if start_ms is None else start_ms
        if not self.first_ms <= self.start_ms <= self.end_ms:
            raise ValueError(f"start {start_ms}: allowed are {self.first_ms} to {self.end_ms} ms")

    def events(self, from_ms: int, until_ms: int) -> Iterator[Outgoing]:
        """The events from a time until before another, oldest first."""
        low, high = np.searchsorted(self._times_ms, [from_ms, until_ms]).tolist()
        names = _feature_columns(self._events, self._schema)
        for begin in range(low, high, _PORTION):
            part = self._events.slice(begin, min(_PORTION, high - begin))
            for row, values in enumerate(part.to_pylist(), start=begin):
                event = UserEvent(
                    # Padded: a history orders the events of one moment by their ids.
                    event_id=f"row-{row:012}",
                    ad_id=None,
                    action=values["action"],
                    time_ms=values["time_ms"],
                    value=values["value"],
                    features={n: (values[n],) for n in names if values[n] is not None},
                )
                yield self._events_topic, encode_id(values["user_id"]), encode_event(event), ()

    def ad_changes(self, time_ms: int) -> Iterator[Outgoing]:
        """At the start, every ad whose flight is not over: flights say when they are live."""
        if time_ms != self.start_ms:
            return
        names = _feature_columns(self._ads, self._schema)
        for values in self._ads.to_pylist():
            if values["end_ms"] <= time_ms:
                continue
            key = encode_id(values["ad_id"])
            end_ms = min(values["end_ms"], MAX_TIME_MS)
            flight = Delivery(time_ms, start_ms=values["start_ms"], end_ms=end_ms)
            # The flight first: an ad without one would be live at once, and for ever.
            yield self._control_topic, key, encode_delivery(flight), ()
            yield self._ads_topic, key, encode_ad(_ad(time_ms, values, names)), ()


def _ad(version: int, values: Mapping[str, Any], names: list[str]) -> Ad:
    there = {name: values[name] for name in names if values[name] is not None}
    owners = {name: there.pop(name, "") for name in _OWNERS}
    return Ad(version, features={name: {value: 1.0} for name, value in there.items()}, **owners)


def _feature_columns(table: pa.Table, schema: Schema) -> list[str]:
    """The columns that fields are read from."""
    fields = (*schema.item_fields, *schema.context_fields)
    sources = {schema.source(name) for name in fields}
    return [name for name in table.column_names if name in sources]
