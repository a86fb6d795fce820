"""Kafka's topics as the tables that the models learn from.

Owns the reading of what producers and workers have written: ads with their flights, events, and
what was served. Promises a user's events in the order in which a worker's history has them, each
once, and nothing of a user from before the user was erased; records that a worker would reject are
left out. A compacted topic tells of every ad only the latest; profiles are those that requests
brought.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.features import Encoder
from model.schema import Schema
from model.tables import RETRIEVAL, TrainingTables
from stream.codec import decode_ad, decode_control, decode_event, decode_impression
from stream.errors import Rejected
from stream.formats import JSON, format_of
from stream.reader import Record, TopicReader
from stream.records import ERASE, MAX_TIME_MS, Ad, ControlChange, Delivery, Impression
from stream.settings import Kafka
from stream.topics import ADS, ADS_CONTROL, IMPRESSIONS, USER_EVENTS

from ..failure import Failed
from .mapping import DataMap
from .parquet import by_period
from .visits import visits_of_events

_POLL_MS = 500
# Records that wait as Python objects before they become columns.
_PORTION = 50_000
_HOUR_MS = 3_600_000
_TEXT = pa.dictionary(pa.int32(), pa.string())


async def training_tables(
    data: DataMap, kafka: Kafka, until_ms: int | None = None
) -> TrainingTables:
    """What the topics tell of the time before a moment, by default of all of it.

    Raises:
        Failed: there is no event, or no ad.
        BrokerUnavailable, TopicMissing: see `TopicReader`.
    """
    schema, before_ms = data.fields, MAX_TIME_MS if until_ms is None else until_ms
    events, erased_ms = await _events(kafka, schema, before_ms)
    ads = await _ads(kafka, schema)
    if not events.num_rows or not ads.num_rows:
        raise Failed(f"{kafka.bootstrap}: {events.num_rows} events, {ads.num_rows} ads; need both")
    from_ms, last_ms = (extreme(events["time_ms"]).as_py() for extreme in (pc.min, pc.max))
    live = by_period(ads, from_ms, min(before_ms, last_ms + 1), data.period_days)
    served = [
        one
        async for one in _impressions(kafka)
        if erased_ms.get(one.user_id, -1) < one.time_ms < before_ms
    ]
    if served:
        visits = _visits(served, events, schema, int(data.attribution_hours * _HOUR_MS))
    else:
        visits = visits_of_events(events, live, schema, data.negatives)
    return TrainingTables(events, _users(served, schema), live, visits)


async def _events(kafka: Kafka, schema: Schema, before_ms: int) -> tuple[pa.Table, dict[int, int]]:
    """Events before a time; and when users were erased, epoch ms."""
    fields = _sources(schema, (*schema.item_fields, *schema.context_fields))
    columns = {
        "user_id": pa.int64(),
        "time_ms": pa.int64(),
        "event_id": pa.string(),
        "partition": pa.int64(),
        "offset": pa.int64(),
        "action": _TEXT,
        "value": pa.float64(),
    } | dict.fromkeys(fields, _TEXT)
    parts, rows = [], list[tuple[Any, ...]]()
    erased_ms: dict[int, int] = {}
    erased_before: dict[tuple[int, int], int] = {}
    async for record in _read(kafka, USER_EVENTS):
        try:
            read = decode_event(record, MAX_TIME_MS)
        except Rejected:
            continue
        event, user_id, place = read.event, read.user_id, (read.partition, read.offset)
        if event.action == ERASE:
            erased_before[read.partition, user_id] = read.offset
            erased_ms[user_id] = max(event.time_ms, erased_ms.get(user_id, -1))
        elif event.time_ms < before_ms:
            known = (user_id, event.time_ms, event.event_id, *place, event.action, event.value)
            rows.append((*known, *_first(event.features, fields)))
        if len(rows) == _PORTION:
            parts.append(_table(rows, columns))
            rows = []
    table = pa.concat_tables([*parts, _table(rows, columns)]).unify_dictionaries().combine_chunks()
    table = _without_erased(table, erased_before)
    # In a history, too, an event id is there once, at its latest time, and orders the events of one
    # moment.
    keys = ("user_id", "event_id")
    table = table.sort_by([("time_ms", "ascending"), ("offset", "ascending")])
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    newest = table.group_by(keys).aggregate([("row", "max")])["row_max"]
    table = table.take(newest).sort_by([("time_ms", "ascending"), ("event_id", "ascending")])
    return table.drop_columns(["row", "event_id", "partition", "offset"]), erased_ms


def _without_erased(events: pa.Table, erased_before: Mapping[tuple[int, int], int]) -> pa.Table:
    """Events but those from before their user was erased, by (partition, user) -> offset."""
    places = pa.table(
        {
            "partition": pa.array([partition for partition, _ in erased_before], pa.int64()),
            "user_id": pa.array([user_id for _, user_id in erased_before], pa.int64()),
            "erased_before": pa.array(erased_before.values(), pa.int64()),
        }
    )
    events = events.join(places, ["partition", "user_id"])
    counts = pc.greater_equal(events["offset"], pc.fill_null(events["erased_before"], 0))
    return events.filter(counts).drop_columns(["erased_before"])


async def _ads(kafka: Kafka, schema: Schema) -> pa.Table:
    """Every flight of every ad, with the features that the ad had by then."""
    fields = _sources(schema, schema.item_fields)
    columns = {"ad_id": pa.int64(), "start_ms": pa.int64(), "end_ms": pa.int64()}
    flights: dict[int, dict[int, Delivery]] = defaultdict(dict)
    async for record in _read(kafka, ADS_CONTROL):
        try:
            change = decode_control(record)
        except Rejected:
            continue
        if isinstance(change, ControlChange) and change.delivery is not None:
            flights[change.ad_id][change.version] = change.delivery
    versions: dict[int, dict[int, tuple[str | None, ...]]] = defaultdict(dict)
    async for record in _read(kafka, ADS):
        try:
            ad_change = decode_ad(record)
        except Rejected:
            continue
        if ad_change.ad is not None:
            features = _owned(ad_change.ad)
            versions[ad_change.ad_id][ad_change.version] = _first(features, fields)
    rows = [
        (ad_id, flight.start_ms or 0, flight.end_ms or MAX_TIME_MS, *_as_of(known, version))
        for ad_id, known in versions.items()
        for version, flight in (flights.get(ad_id) or {0: Delivery(0)}).items()
    ]
    return _table(rows, columns | dict.fromkeys(fields, _TEXT))


async def _impressions(kafka: Kafka) -> AsyncIterator[Impression]:
    async for record in _read(kafka, IMPRESSIONS):
        try:
            yield decode_impression(record.value or b"", format_of(record.headers, JSON))
        except Rejected:
            continue


def _visits(
    served: list[Impression], events: pa.Table, schema: Schema, attribution_ms: int
) -> pa.Table:
    """What was served, and what its user did with each item soon after."""
    contexts = _sources(schema, schema.context_fields)
    columns = {
        "user_id": pa.int64(),
        "time_ms": pa.int64(),
        "visit_id": pa.int64(),
        "ad_id": pa.int64(),
        RETRIEVAL: pa.float64(),
    } | dict.fromkeys((*schema.item_fields, *contexts), _TEXT)
    rows = [
        (
            one.user_id,
            one.time_ms,
            visit_id,
            ad.ad_id,
            ad.score,
            *_first(ad.features, schema.item_fields),
            *_first(one.context, contexts),
        )
        for visit_id, one in enumerate(served)
        for ad in one.ads
    ]
    shown, encoder = _table(rows, columns), Encoder(schema)
    happened: dict[tuple[int, int], list[int]] = defaultdict(list)
    for user_id, item, time_ms in _keys(events, encoder):
        happened[user_id, item].append(time_ms)
    counts = np.zeros(shown.num_rows, np.int64)
    for row, (user_id, item, time_ms) in enumerate(_keys(shown, encoder)):
        times = happened.get((user_id, item), [])
        counts[row] = bisect_left(times, time_ms + attribution_ms) - bisect_left(times, time_ms)
    for name, least in (("engage", 1), ("consume", 2)):
        shown = shown.append_column(name, pa.array((counts >= least).astype(np.int8)))
    return shown


def _keys(table: pa.Table, encoder: Encoder) -> Iterator[tuple[int, int, int]]:
    """User, raw id of the item, and time of each row."""
    items = encoder.items_from_table(table)[:, 0].tolist()
    return zip(table["user_id"].to_pylist(), items, table["time_ms"].to_pylist(), strict=True)


def _users(served: list[Impression], schema: Schema) -> pa.Table:
    fields = _sources(schema, schema.profile_fields)
    latest = {one.user_id: one.user for one in sorted(served, key=lambda one: one.time_ms)}
    rows = [(user_id, *_first(profile, fields)) for user_id, profile in latest.items()]
    return _table(rows, {"user_id": pa.int64()} | dict.fromkeys(fields, _TEXT))


async def _read(kafka: Kafka, topic: str) -> AsyncIterator[Record]:
    """The records of a topic that are there now."""
    name = kafka.topic(topic)
    async with TopicReader(kafka, [name]) as reader:
        ends = (await reader.end_offsets())[name]
        while any(reader.positions()[name][partition] < end for partition, end in ends.items()):
            for record in await reader.read(_POLL_MS):
                if record.offset < ends[record.partition]:
                    yield record


def _sources(schema: Schema, fields: Iterable[str]) -> list[str]:
    """The fields of records that these are read from."""
    sources = (schema.source(name) for name in fields)
    return list(dict.fromkeys(source for source in sources if source is not None))


def _owned(ad: Ad) -> Mapping[str, Iterable[str]]:
    owners = {"advertiser": ad.advertiser, "campaign": ad.campaign}
    return {**{field: (name,) for field, name in owners.items() if name}, **ad.features}


def _first(features: Mapping[str, Iterable[str]], fields: Iterable[str]) -> tuple[str | None, ...]:
    return tuple(next(iter(features.get(field, ())), None) for field in fields)


def _as_of(versions: Mapping[int, Any], version: int) -> Any:
    """The newest one up to a version, else the oldest."""
    earlier = [known for known in versions if known <= version]
    return versions[max(earlier) if earlier else min(versions)]


def _table(rows: list[tuple[Any, ...]], columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Rows as columns."""
    by_name = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pa.table(
        {
            name: pa.array(values, pa.string()).dictionary_encode()
            if type_ == _TEXT
            else pa.array(values, type_)
            for values, (name, type_) in zip(by_name, columns.items(), strict=True)
        }
    )
