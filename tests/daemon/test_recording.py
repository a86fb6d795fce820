"""Claims of the recording: what weeks of the data are as records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from daemon.datasets import complete_journey as journey
from daemon.datasets.complete_journey import Recording, week_start_ms
from stream.codec import decode_ad, decode_control, decode_event
from stream.publish import Outgoing
from stream.records import AdChange, ControlChange, EventRecord
from stream.settings import Kafka

KAFKA = Kafka("unused:0", prefix="p-")
FROM_WEEK, TO_WEEK = 3, 5


@dataclass(frozen=True)
class Message:
    """A record as its reader gets it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording(KAFKA, FROM_WEEK, TO_WEEK)


def message(record: Outgoing) -> Message:
    topic, key, value, headers = record
    return Message(topic, key, value, list(headers))


def ads_of(recording: Recording, week: int) -> dict[int, AdChange]:
    changes = map(message, recording.ad_changes(week_start_ms(week)))
    decoded = [decode_ad(change) for change in changes if change.topic == "p-ads"]
    assert len(decoded) == len({change.ad_id for change in decoded})
    return {change.ad_id: change for change in decoded}


def deliveries_of(recording: Recording, week: int) -> dict[int, ControlChange]:
    changes = map(message, recording.ad_changes(week_start_ms(week)))
    decoded = [decode_control(change) for change in changes if change.topic == "p-ads-control"]
    return {change.ad_id: change for change in decoded if isinstance(change, ControlChange)}


def events_of(recording: Recording, from_ms: int, until_ms: int) -> list[EventRecord]:
    return [
        decode_event(message(record), now_ms=until_ms)
        for record in recording.events(from_ms, until_ms)
    ]


def listed(week: int) -> set[int]:
    return set(journey.ads(week, week + 1)["ad_id"].to_pylist())


def test_every_record_is_one_that_readers_accept_whole(recording: Recording) -> None:
    """No rejection and no unknown key: the decoders are strict, and these are their own format."""
    unknown: Counter[str] = Counter()
    for record in recording.events(recording.start_ms, week_start_ms(4)):
        decode_event(message(record), recording.end_ms, unknown)
    for week in range(FROM_WEEK, TO_WEEK + 1):
        for record in recording.ad_changes(week_start_ms(week)):
            decode = decode_ad if record[0] == "p-ads" else decode_control
            decode(message(record), unknown)
    assert not unknown


def test_a_week_writes_its_ads_and_deletes_those_no_longer_listed(recording: Recording) -> None:
    for week in (FROM_WEEK, FROM_WEEK + 1, TO_WEEK):
        changes = ads_of(recording, week)
        before = listed(week - 1) if week > FROM_WEEK else set()
        assert {ad_id for ad_id, change in changes.items() if change.ad} == listed(week)
        assert {ad_id for ad_id, change in changes.items() if not change.ad} == before - listed(
            week
        )


def test_every_version_is_the_monday_of_its_change(recording: Recording) -> None:
    """An update, a delete and a new listing each need a version above the last one."""
    for week in range(FROM_WEEK, TO_WEEK + 1):
        changes = [*ads_of(recording, week).values(), *deliveries_of(recording, week).values()]
        assert {change.version for change in changes} == {week_start_ms(week)}


def test_an_ad_is_delivered_in_its_week_and_in_no_other(recording: Recording) -> None:
    deliveries = deliveries_of(recording, TO_WEEK)
    assert deliveries.keys() == listed(TO_WEEK)
    for change in deliveries.values():
        assert change.delivery is not None
        assert change.delivery.status == "active"
        assert change.delivery.start_ms == week_start_ms(TO_WEEK)
        assert change.delivery.end_ms == week_start_ms(TO_WEEK + 1)


def test_an_ad_carries_the_fields_of_the_data(recording: Recording) -> None:
    rows = {row["ad_id"]: row for row in journey.ads(TO_WEEK, TO_WEEK + 1).to_pylist()}
    for ad_id, change in ads_of(recording, TO_WEEK).items():
        if change.ad is None:
            continue
        features = {field: next(iter(values)) for field, values in change.ad.features.items()}
        known = {f: rows[ad_id][f] for f in journey.ITEM_FIELDS if rows[ad_id][f] is not None}
        assert features == known
        assert change.ad.advertiser == rows[ad_id]["manufacturer"]


def test_nothing_happens_to_ads_but_on_the_mondays_of_the_weeks(recording: Recording) -> None:
    monday = week_start_ms(FROM_WEEK + 1)
    for time_ms in (monday - 1, monday + 1, week_start_ms(FROM_WEEK - 1), recording.end_ms):
        assert not list(recording.ad_changes(time_ms))


def test_events_are_the_purchases_in_order_of_time(recording: Recording) -> None:
    until_ms = week_start_ms(2)
    events = events_of(recording, recording.first_ms, until_ms)
    table = journey.events(2)
    assert [record.user_id for record in events] == table["user_id"].to_pylist()
    assert [record.event.time_ms for record in events] == table["time_ms"].to_pylist()
    assert [record.event.value for record in events] == table["value"].to_pylist()
    assert [record.event.ad_id for record in events] == table["ad_id"].to_pylist()
    for field in journey.EVENT_FIELDS:
        values = [record.event.features.get(field, (None,))[0] for record in events]
        assert values == table[field].to_pylist()
    assert {record.event.action for record in events} == {journey.ACTION}


def test_adjoining_stretches_share_no_purchase_and_miss_none(recording: Recording) -> None:
    times = journey.events(3)["time_ms"].to_numpy()
    # A time at which something happens belongs to the stretch that begins with it.
    middle = int(times[len(times) // 2])
    ids = [
        record.event.event_id
        for bounds in ((recording.first_ms, middle), (middle, recording.start_ms))
        for record in events_of(recording, *bounds)
    ]
    assert len(ids) == len(set(ids)) == np.count_nonzero(times < recording.start_ms)


def test_a_purchase_keeps_its_event_id_in_every_recording(recording: Recording) -> None:
    """A past that is sent twice must be recognised."""
    longer = Recording(KAFKA, TO_WEEK, TO_WEEK + 1)
    bounds = week_start_ms(2), week_start_ms(2) + 3_600_000 * 20
    assert events_of(longer, *bounds) == events_of(recording, *bounds)


@pytest.mark.parametrize(("from_week", "to_week"), [(0, 1), (5, 4), (53, 54)])
def test_weeks_outside_the_data_are_refused(from_week: int, to_week: int) -> None:
    with pytest.raises(ValueError, match="1 to 53"):
        Recording(KAFKA, from_week, to_week)
