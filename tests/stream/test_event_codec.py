"""User events from bytes: every rule that keeps a history sound."""

import json

import pytest

from stream.codec import decode_event, encode_event
from stream.errors import Reason, Rejected
from stream.records import MAX_FEATURES, EventRecord, UserEvent

NOW_MS = 1_500_000_000_000
DAY_MS = 86_400_000

EVENT = {
    "event_id": "basket-17",
    "ad_id": "10257431",
    "action": "buy",
    "time_ms": NOW_MS,
    "value": 3.5,
    "features": {"product": ["1025743"], "store": ["367"]},
}


def value(body: object) -> bytes:
    """JSON; unlike the codec it writes NaN and infinity, as many producers do."""
    return json.dumps(body).encode()


def many(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_an_event_is_read_whole(record):
    assert decode_event(record(b"9", value(EVENT)), NOW_MS) == EventRecord(
        9,
        UserEvent(
            event_id="basket-17",
            ad_id=10_257_431,
            action="buy",
            time_ms=NOW_MS,
            value=3.5,
            features={"product": ("1025743",), "store": ("367",)},
        ),
        partition=3,
        offset=41,
    )


def test_an_event_without_an_ad_is_applied(record):
    """Histories and statistics go by the item's features, not by the ad."""
    absent = {name: field for name, field in EVENT.items() if name != "ad_id"}
    for body in (EVENT | {"ad_id": None}, absent):
        assert decode_event(record(b"9", value(body)), NOW_MS).event.ad_id is None


def test_a_null_event_is_rejected(record):
    with pytest.raises(Rejected) as rejected:
        decode_event(record(b"9", None), NOW_MS)
    assert rejected.value.reason is Reason.NULL_VALUE


def test_an_event_may_be_a_day_ahead_of_now_and_no_more(record):
    decode_event(record(b"9", value(EVENT | {"time_ms": NOW_MS + DAY_MS})), NOW_MS)
    with pytest.raises(Rejected) as rejected:
        decode_event(record(b"9", value(EVENT | {"time_ms": NOW_MS + DAY_MS + 1})), NOW_MS)
    assert rejected.value.reason is Reason.FUTURE_EVENT


def test_an_old_event_is_applied(record):
    assert decode_event(record(b"9", value(EVENT | {"time_ms": 0})), NOW_MS).event.time_ms == 0


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": 17},
        {"event_id": ""},
        {"event_id": None},
        {"ad_id": 10_257_431},
        {"ad_id": ""},
        {"ad_id": "-1"},
        {"ad_id": "007"},
        {"ad_id": "\u0663"},  # three in Arabic digits, which int() reads
        {"ad_id": "9223372036854775808"},
        {"action": None},
        {"time_ms": None},
        {"time_ms": "1500000000000"},
        {"time_ms": 1.5e12},
        {"time_ms": -1},
        {"value": "3.5"},
        {"value": None},
        {"value": True},
        {"features": {"product": "1025743"}},
        {"features": {"product": {"1025743": 1.0}}},
        {"features": {"product": [7]}},
        {"features": {"a=b": ["c"]}},
        {"features": {"": ["c"]}},
        {"features": None},
    ],
)
def test_an_event_with_a_wrong_field_is_rejected(change, record):
    with pytest.raises(Rejected) as rejected:
        decode_event(record(b"9", value(EVENT | change)), NOW_MS)
    assert rejected.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400])
def test_an_event_with_a_value_that_is_not_finite_is_rejected(number, record):
    raw = f'{{"event_id": "e", "action": "buy", "time_ms": 1, "value": {number}}}'.encode()
    with pytest.raises(Rejected):
        decode_event(record(b"9", raw), NOW_MS)


def test_an_event_may_have_4096_features_and_no_more(record):
    decode_event(record(b"9", value(EVENT | {"features": {"a": many(MAX_FEATURES)}})), NOW_MS)
    with pytest.raises(Rejected) as rejected:
        decode_event(
            record(b"9", value(EVENT | {"features": {"a": many(MAX_FEATURES), "b": ["1"]}})), NOW_MS
        )
    assert rejected.value.reason is Reason.TOO_MANY_FEATURES


def test_ids_are_decimal_strings_in_json():
    event = UserEvent("e", 12, "buy", 5)
    assert json.loads(encode_event(event))["ad_id"] == "12"
