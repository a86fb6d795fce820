"""Ads, delivery states and events: every rule of the contract's records, from bytes."""

import json
from collections import Counter

import pytest

from stream.codec import (
    CLOCK_KEY,
    VERSION_HEADER,
    decode_ad,
    decode_control,
    decode_event,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_id,
    encode_tick,
    parse_id,
)
from stream.errors import Reason, Rejected
from stream.records import (
    MAX_FEATURES,
    MAX_ID,
    MAX_TIME_MS,
    NEXT_VERSION,
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


def many(count: int) -> list[str]:
    return [str(number) for number in range(count)]


# Ids


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


# Values that are no JSON, or no object


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


# Ads


def test_an_ad_is_read_whole(record):
    change = decode_ad(record(b"5", value(AD)))
    assert change == AdChange(
        5,
        7,
        Ad(
            version=7,
            advertiser="69",
            campaign="spring",
            features={
                "product": {"1025743": 1.0},
                "category": {"SOFT DRINKS": 1.0, "SNACKS": 0.25},
            },
            targeting={
                "age": Rule(allow=("35-44",), deny=("19-24",)),
                "store": Rule(deny=("367",)),
            },
        ),
    )


def test_a_listed_feature_weighs_one_and_a_weight_of_zero_is_no_feature(record):
    features = {"brand": ["a", "a", "b"], "type": {"c": 0, "d": 1, "e": 0.5}}
    ad = decode_ad(record(b"5", value({"version": 1, "features": features}))).ad
    assert ad is not None
    assert ad.features == {"brand": {"a": 1.0, "b": 1.0}, "type": {"d": 1.0, "e": 0.5}}


def test_a_null_ad_is_a_delete_with_the_version_of_its_header(record):
    headers = [("trace", b"x"), (VERSION_HEADER, b"12")]
    assert decode_ad(record(b"5", None, headers)) == AdChange(5, 12, None)


def test_a_delete_without_a_version_is_one_more_than_the_last(record):
    assert decode_ad(record(b"5", None)) == AdChange(5, NEXT_VERSION, None)


@pytest.mark.parametrize("version", [b"", b"-1", b"1.5", b"abc", b"\xff", None])
def test_a_delete_whose_version_is_not_decimal_is_rejected(version, record):
    with pytest.raises(Rejected) as rejected:
        decode_ad(record(b"5", None, [(VERSION_HEADER, version)]))
    assert rejected.value.reason is Reason.BAD_VERSION


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": "7"},
        {"version": 7.5},
        {"version": True},
        {"version": -1},
        {"version": 2**63},
        {"advertiser": 69},
        {"campaign": None},
        {"features": [["product", "1"]]},
        {"features": {"product": "1025743"}},
        {"features": {"product": [1025743]}},
        {"features": {"product": [None]}},
        {"features": {"product": {"1025743": "1"}}},
        {"features": {"product": {"1025743": 1.5}}},
        {"features": {"product": {"1025743": -0.5}}},
        {"features": {"a=b": ["c"]}},
        {"features": {"": ["c"]}},
        {"targeting": {"age": ["35-44"]}},
        {"targeting": {"age": {"allow": "35-44"}}},
        {"targeting": {"age": {"deny": [35]}}},
        {"targeting": {"a=b": {}}},
    ],
)
def test_an_ad_with_a_wrong_field_is_rejected(change, record):
    with pytest.raises(Rejected) as rejected:
        decode_ad(record(b"5", value(AD | change)))
    assert rejected.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_an_ad_with_a_weight_that_is_not_finite_is_rejected(weight, record):
    raw = f'{{"version": 1, "features": {{"type": {{"a": {weight}}}}}}}'.encode()
    with pytest.raises(Rejected):
        decode_ad(record(b"5", raw))


def test_an_ad_without_a_version_is_rejected(record):
    with pytest.raises(Rejected, match="version"):
        decode_ad(record(b"5", value({"advertiser": "69"})))


@pytest.mark.parametrize(
    "features",
    [
        lambda count: {"type": many(count)},
        lambda count: {"type": dict.fromkeys(many(count), 0.5)},
        lambda count: {name: ["a"] for name in many(count)},
        lambda count: {"type": many(count - 1), "brand": [""]},
        lambda count: {"type": [""] * count},
    ],
)
def test_an_ad_may_have_4096_features_and_no_more(features, record):
    decode_ad(record(b"5", value({"version": 1, "features": features(MAX_FEATURES)})))
    with pytest.raises(Rejected) as rejected:
        decode_ad(record(b"5", value({"version": 1, "features": features(MAX_FEATURES + 1)})))
    assert rejected.value.reason is Reason.TOO_MANY_FEATURES


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


# Delivery states and the clock


def test_a_delivery_state_is_read_whole(record):
    assert decode_control(record(b"5", value(DELIVERY))) == ControlChange(
        5,
        8,
        Delivery(
            version=8,
            status="paused",
            budget_left=12.5,
            pacing=0.5,
            bid=2.0,
            start_ms=NOW_MS,
            end_ms=NOW_MS + DAY_MS,
        ),
    )


def test_absent_delivery_fields_are_active_unlimited_unpaced_one_and_always(record):
    change = decode_control(record(b"5", b'{"version": 8}'))
    assert isinstance(change, ControlChange)
    delivery = change.delivery
    assert delivery is not None
    assert (delivery.status, delivery.budget_left) == ("active", None)
    assert (delivery.pacing, delivery.bid) == (1.0, 1.0)
    assert (delivery.start_ms, delivery.end_ms) == (None, None)


def test_a_null_delivery_state_asks_for_the_defaults(record):
    assert decode_control(record(b"5", None)) == ControlChange(5, NEXT_VERSION, None)
    headers = [(VERSION_HEADER, b"12")]
    assert decode_control(record(b"5", None, headers)) == ControlChange(5, 12, None)


@pytest.mark.parametrize(
    "change",
    [
        {"end_ms": MAX_TIME_MS},
        {"budget_left": None},
        {"budget_left": -0.5},
        {"budget_left": 0},
        {"pacing": 0},
        {"bid": 0},
        {"start_ms": None, "end_ms": None},
    ],
)
def test_the_ends_of_the_ranges_of_a_delivery_state_are_valid(change, record):
    """The year 9999 is how many producers write "no end"."""
    assert isinstance(decode_control(record(b"5", value(DELIVERY | change))), ControlChange)


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"status": "stopped"},
        {"status": None},
        {"budget_left": "12"},
        {"pacing": 1.01},
        {"pacing": -0.01},
        {"pacing": True},
        {"bid": -1},
        {"bid": None},
        {"start_ms": -1},
        {"start_ms": 1.5},
        {"end_ms": MAX_TIME_MS + 1},
        {"end_ms": "9999-12-31"},
    ],
)
def test_a_delivery_state_with_a_wrong_field_is_rejected(change, record):
    with pytest.raises(Rejected) as rejected:
        decode_control(record(b"5", value(DELIVERY | change)))
    assert rejected.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize("field", ["budget_left", "pacing", "bid"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_delivery_state_with_a_number_that_is_not_finite_is_rejected(field, number, record):
    with pytest.raises(Rejected):
        decode_control(record(b"5", f'{{"version": 1, "{field}": {number}}}'.encode()))


def test_the_clock_key_carries_the_replay_clock(record):
    tick = ClockTick(NOW_MS)
    assert decode_control(record(CLOCK_KEY, encode_tick(tick))) == tick


def test_a_null_clock_record_is_rejected(record):
    with pytest.raises(Rejected) as rejected:
        decode_control(record(CLOCK_KEY, None))
    assert rejected.value.reason is Reason.NULL_VALUE


# Events


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


# Unknown keys


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


# Both ways


def test_what_is_encoded_is_decoded_to_the_same(record):
    ad = Ad(3, "69", "c", {"type": {"a": 1.0, "b": 0.125}}, {"age": Rule((), ("x",)), "f": Rule()})
    assert decode_ad(record(b"5", encode_ad(ad))) == AdChange(5, 3, ad)
    delivery = Delivery(4, "paused", None, 0.25, 0.0, 1, MAX_TIME_MS)
    change = decode_control(record(b"5", encode_delivery(delivery)))
    assert change == ControlChange(5, 4, delivery)
    for ad_id in (None, 0, MAX_ID):
        event = UserEvent("e", ad_id, "buy", 5, -1.5, {"product": ("1", "2"), "store": ()})
        assert decode_event(record(b"9", encode_event(event)), NOW_MS) == EventRecord(9, event)


def test_an_empty_allow_survives_and_is_not_the_absence_of_a_condition(record):
    ad = decode_ad(record(b"5", encode_ad(Ad(1, targeting={"age": Rule(allow=())})))).ad
    assert ad is not None
    assert ad.targeting["age"].allow == ()


def test_ids_are_decimal_strings_in_json():
    event = UserEvent("e", 12, "buy", 5)
    assert json.loads(encode_event(event))["ad_id"] == "12"
