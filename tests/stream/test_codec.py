"""What holds on every topic: keys, JSON, unknown keys, the bound on features, both ways."""

import json
from collections import Counter

import pytest

from stream.codec import (
    CLOCK_KEY,
    decode_ad,
    decode_control,
    decode_event,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_id,
    parse_id,
)
from stream.errors import Reason, Rejected
from stream.records import (
    MAX_FEATURES,
    MAX_ID,
    MAX_TIME_MS,
    Ad,
    AdChange,
    ClockTick,
    ControlChange,
    Delivery,
    EventRecord,
    Rule,
    UserEvent,
)

NOW_MS = 1_500_000_000_000
DAY_MS = 86_400_000

AD = {
    "version": 7,
    "advertiser": "69",
    "campaign": "spring",
    "features": {"product": ["1025743"], "category": {"SOFT DRINKS": 1.0, "SNACKS": 0.25}},
    "targeting": {"age": {"allow": ["35-44"], "deny": ["19-24"]}, "store": {"deny": ["367"]}},
}
DELIVERY = {
    "version": 8,
    "status": "paused",
    "budget_left": 12.5,
    "pacing": 0.5,
    "bid": 2.0,
    "start_ms": NOW_MS,
    "end_ms": NOW_MS + DAY_MS,
}
EVENT = {
    "event_id": "basket-17",
    "ad_id": "10257431",
    "action": "buy",
    "time_ms": NOW_MS,
    "value": 3.5,
    "features": {"product": ["1025743"], "store": ["367"]},
}

NOT_AN_ID = [
    b"",
    b"abc",
    b"-1",
    b"+1",
    b" 1",
    b"1 ",
    b"1\n",
    b"1_000",
    b"1.0",
    b"1e3",
    b"0x1",
    b"01",
    b"00",
    b"9223372036854775808",
    b"1" * 5_000,
    b"\xff\xfe",
    b"\xb2",  # superscript two in Latin-1, a digit to str.isdigit
    "\u0663".encode(),  # three in Arabic digits
]

NOT_JSON = [
    b"",
    b"{",
    b"not json",
    b"{'version': 1}",
    b'{"version": 1}}',
    b'\xef\xbb\xbf{"version": 1}',  # a byte order mark
    b'{"version": 1, "advertiser": "\xff"}',
    b'{"version": 1, "advertiser": "\\ud800"}',
    b'{"version": NaN}',
    b'{"version": -Infinity}',
    b'{"unknown": ' + b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
]


def value(body: object) -> bytes:
    """JSON; unlike the codec it writes NaN and infinity, as many producers do."""
    return json.dumps(body).encode()


@pytest.mark.parametrize("number", [0, 1, 10_257_431, MAX_ID])
def test_an_id_is_its_decimal_key(number, record):
    assert parse_id(encode_id(number).decode()) == number
    assert decode_ad(record(encode_id(number), None)).ad_id == number


@pytest.mark.parametrize("key", NOT_AN_ID)
def test_a_key_that_is_not_a_canonical_id_is_rejected_on_every_topic(key, record):
    """Other spellings of a number would be other keys to compaction and partitioning."""
    for decode in (
        lambda: decode_ad(record(key, value(AD))),
        lambda: decode_ad(record(key, None)),
        lambda: decode_control(record(key, value(DELIVERY))),
        lambda: decode_event(record(key, value(EVENT)), NOW_MS),
    ):
        with pytest.raises(Rejected) as rejected:
            decode()
        assert rejected.value.reason is Reason.BAD_KEY


def test_a_null_key_is_rejected_on_every_topic(record):
    for decode in (
        lambda: decode_ad(record(None, value(AD))),
        lambda: decode_ad(record(None, None)),
        lambda: decode_control(record(None, value(DELIVERY))),
        lambda: decode_event(record(None, value(EVENT)), NOW_MS),
    ):
        with pytest.raises(Rejected) as rejected:
            decode()
        assert rejected.value.reason is Reason.NULL_KEY


@pytest.mark.parametrize("raw", NOT_JSON)
def test_what_is_not_json_is_undecodable_on_every_topic(raw, record):
    for decode in (
        lambda: decode_ad(record(b"1", raw)),
        lambda: decode_control(record(b"1", raw)),
        lambda: decode_control(record(CLOCK_KEY, raw)),
        lambda: decode_event(record(b"1", raw), NOW_MS),
    ):
        with pytest.raises(Rejected) as rejected:
            decode()
        assert rejected.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize("raw", [b"null", b"1", b'"text"', b"[]", b"{}"])
def test_json_that_is_no_record_is_an_invalid_field_on_every_topic(raw, record):
    for decode in (
        lambda: decode_ad(record(b"1", raw)),
        lambda: decode_control(record(b"1", raw)),
        lambda: decode_control(record(CLOCK_KEY, raw)),
        lambda: decode_event(record(b"1", raw), NOW_MS),
    ):
        with pytest.raises(Rejected) as rejected:
            decode()
        assert rejected.value.reason is Reason.INVALID_FIELD


def test_too_many_features_are_seen_in_the_shortest_json_that_can_hold_them(record):
    """Short values are not counted at all, so the bound on their length must be safe."""
    listed = ",".join(['""'] * (MAX_FEATURES + 1))
    for raw, decode in (
        (f'{{"version":1,"features":{{"a":[{listed}]}}}}', decode_ad),
        (
            f'{{"event_id":"e","action":"","time_ms":0,"features":{{"a":[{listed}]}}}}',
            lambda message: decode_event(message, NOW_MS),
        ),
    ):
        with pytest.raises(Rejected) as rejected:
            decode(record(b"5", raw.encode()))
        assert rejected.value.reason is Reason.TOO_MANY_FEATURES


def test_unknown_keys_are_ignored_and_counted_by_topic(record):
    unknown = Counter()
    extra = {"note": {"deep": [1, None]}, "colour": "red"}
    targeting = AD["targeting"] | {"age": AD["targeting"]["age"] | {"why": "a test"}}
    control = record(b"5", value(DELIVERY | extra))
    assert decode_ad(
        record(b"5", value(AD | extra | {"targeting": targeting})), unknown
    ) == decode_ad(record(b"5", value(AD)))
    assert decode_control(control, unknown) == decode_control(record(b"5", value(DELIVERY)))
    assert decode_event(record(b"9", value(EVENT | extra)), NOW_MS, unknown) == decode_event(
        record(b"9", value(EVENT)), NOW_MS
    )
    assert decode_control(record(CLOCK_KEY, b'{"time_ms": 5, "zone": 1}'), unknown) == ClockTick(5)
    assert unknown == {"ads": 3, "ads-control": 3, "user-events": 2}


def test_records_without_unknown_keys_count_nothing(record):
    unknown = Counter()
    decode_ad(record(b"5", value(AD)), unknown)
    decode_control(record(b"5", value(DELIVERY)), unknown)
    decode_event(record(b"9", value(EVENT)), NOW_MS, unknown)
    assert not unknown


def test_an_unknown_key_does_not_hide_a_wrong_field(record):
    unknown = Counter()
    with pytest.raises(Rejected, match="version"):
        decode_ad(record(b"5", value(AD | {"note": 1, "version": "7"})), unknown)
    assert not unknown


def test_what_is_encoded_is_decoded_to_the_same(record):
    ad = Ad(3, "69", "c", {"type": {"a": 1.0, "b": 0.125}}, {"age": Rule((), ("x",)), "f": Rule()})
    assert decode_ad(record(b"5", encode_ad(ad))) == AdChange(5, 3, ad)
    delivery = Delivery(4, "paused", None, 0.25, 0.0, 1, MAX_TIME_MS)
    change = decode_control(record(b"5", encode_delivery(delivery)))
    assert change == ControlChange(5, 4, delivery)
    for ad_id in (None, 0, MAX_ID):
        event = UserEvent("e", ad_id, "buy", 5, -1.5, {"product": ("1", "2"), "store": ()})
        assert decode_event(record(b"9", encode_event(event)), NOW_MS) == EventRecord(
            9, event, 3, 41
        )
