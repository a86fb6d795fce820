"""Delivery states and the replay clock from bytes."""

import json

import pytest

from stream.codec import CLOCK_KEY, VERSION_HEADER, decode_control, encode_tick
from stream.errors import Reason, Rejected
from stream.records import MAX_TIME_MS, NEXT_VERSION, ClockTick, ControlChange, Delivery

NOW_MS = 1_500_000_000_000
DAY_MS = 86_400_000

DELIVERY = {
    "version": 8,
    "status": "paused",
    "budget_left": 12.5,
    "pacing": 0.5,
    "bid": 2.0,
    "start_ms": NOW_MS,
    "end_ms": NOW_MS + DAY_MS,
}


def value(body: object) -> bytes:
    """JSON; unlike the codec it writes NaN and infinity, as many producers do."""
    return json.dumps(body).encode()


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
