"""Whatever bytes arrive, a decoder returns a record or raises its own error: nothing else."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.checkpoints import (
    MARK_KEY,
    CheckpointUnreadable,
    Mark,
    join,
    read_checkpoint,
    read_mark,
    write_checkpoint,
    write_mark,
)
from stream.codec import (
    CLOCK_KEY,
    VERSION_HEADER,
    decode_ad,
    decode_control,
    decode_event,
    decode_request,
    decode_request_body,
    decode_response,
    encode_ad,
    encode_event,
    encode_request,
)
from stream.deadletters import dead_letter
from stream.directory import Directory, Listing, decode_listing, encode_listing
from stream.errors import Rejected
from stream.records import (
    MAX_ID,
    MAX_TIME_MS,
    Ad,
    AdChange,
    ClockTick,
    ControlChange,
    EventRecord,
    Rule,
    ScoreRequest,
    ScoreResponse,
    UserEvent,
)

NOW_MS = 1_500_000_000_000

FIELDS = [
    *("version", "advertiser", "campaign", "features", "targeting"),
    *("status", "budget_left", "pacing", "bid", "start_ms", "end_ms", "time_ms"),
    *("event_id", "ad_id", "action", "value"),
    *("request_id", "user_id", "user", "k", "candidates", "filters", "context", "deadline_ms"),
    *("seed", "now_ms", "min_offsets", "max_staleness_ms", "mode", "rank"),
    *("ads", "models", "epoch", "offsets", "flags", "error", "allow", "deny"),
]
names = st.sampled_from(FIELDS) | st.text(max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, MAX_ID, MAX_ID + 1, MAX_TIME_MS, MAX_TIME_MS + 1, 10**400])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1", "01", "active", "paused", "full", "sparse", str(MAX_ID + 1)])
)
bodies = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=8,
)
valid = st.sampled_from(
    [
        encode_ad(Ad(1, "a", "c", {"f": {"v": 0.5}}, {"age": Rule(("1",), ("2",))})),
        encode_event(UserEvent("e", 7, "buy", 5, 1.5, {"product": ("1",)})),
        encode_request(ScoreRequest(request_id="r", user_id=1, filters={"f": Rule(("1",))})),
    ]
)


@st.composite
def damaged(draw, whole):
    """A valid record with a few bytes changed, put in or taken out."""
    raw = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw)


# Not `.encode()`: surrogates that JSON escapes and UTF-8 refuses are part of the input.
written = bodies.map(lambda body: json.dumps(body).encode())
values = st.none() | st.binary(max_size=64) | written | damaged(valid)
keys = st.sampled_from([None, b"1", b"0", CLOCK_KEY, b"01"]) | st.binary(max_size=24)
headers = st.lists(
    st.tuples(st.sampled_from([VERSION_HEADER, "other"]), st.binary(max_size=4) | st.just(b"12")),
    max_size=2,
)


@settings(max_examples=400, deadline=None)
@given(keys, values, headers)
def test_any_bytes_become_a_record_or_a_rejection_that_can_be_dead_lettered(
    record, key, value, headers
):
    message = record(key, value, headers)
    for decode, kinds in (
        (lambda: decode_ad(message), AdChange),
        (lambda: decode_control(message), (ControlChange, ClockTick)),
        (lambda: decode_event(message, NOW_MS), EventRecord),
        (lambda: decode_request(key, value), ScoreRequest),
        (lambda: decode_request_body(value or b""), ScoreRequest),
        (lambda: decode_response(value or b""), ScoreResponse),
    ):
        try:
            result = decode()
        except Rejected as rejected:
            letter = dead_letter(message, rejected.reason, rejected.detail)
            assert (letter.key, letter.value) == (key, value)
        else:
            assert isinstance(result, kinds)


internal = st.sampled_from(
    [
        write_checkpoint(7, "s", 5, [UserEvent("e", None, "buy", 5)], 3)[0][1],
        write_mark(Mark("s", 5))[1],
        encode_listing(Listing("http://a:1", (0, 1))),
    ]
)
checkpoint_keys = st.sampled_from([MARK_KEY, b"7", b"7/1", b"7/-1", b"7/ 1", b"7/1_0", b"7/01"])


@settings(max_examples=400, deadline=None)
@given(checkpoint_keys | st.binary(max_size=12), st.binary(max_size=64) | damaged(internal))
def test_any_bytes_become_a_checkpoint_a_mark_and_a_listing_or_an_error_that_says_so(key, value):
    with suppress(CheckpointUnreadable):
        user_id, part, checkpoint = read_checkpoint(key, value)
        assert 0 <= user_id <= MAX_ID
        assert part >= 0
        join([checkpoint])
    with suppress(CheckpointUnreadable):
        assert read_mark(value).next_offset >= 0
    with suppress(Rejected):
        Directory().note("worker", decode_listing(value))


texts = st.text(max_size=8)
fields = texts.filter(lambda name: name and "=" not in name)
ids = st.integers(0, MAX_ID)
listed = st.lists(texts, max_size=3).map(tuple)
rules = st.builds(Rule, allow=st.none() | listed, deny=st.none() | listed)


@settings(max_examples=200, deadline=None)
@given(
    ids,
    st.builds(
        Ad,
        version=st.integers(0, MAX_ID - 1),
        advertiser=texts,
        campaign=texts,
        features=st.dictionaries(
            fields,
            st.dictionaries(
                texts, st.floats(0.0, 1.0, exclude_min=True, allow_subnormal=False), max_size=3
            ),
            max_size=3,
        ),
        targeting=st.dictionaries(fields, rules, max_size=2),
    ),
)
def test_every_ad_survives_both_ways(record, ad_id, ad):
    message = record(b"%d" % ad_id, encode_ad(ad))
    assert decode_ad(message) == AdChange(ad_id, ad.version, ad)


@settings(max_examples=200, deadline=None)
@given(
    ids,
    st.builds(
        UserEvent,
        event_id=texts.filter(bool),
        ad_id=st.none() | ids,
        action=texts,
        time_ms=st.integers(0, NOW_MS),
        value=st.floats(-1e12, 1e12),
        features=st.dictionaries(fields, listed, max_size=4),
    ),
)
def test_every_event_survives_both_ways(record, user_id, event):
    message = record(b"%d" % user_id, encode_event(event))
    assert decode_event(message, NOW_MS) == EventRecord(user_id, event, 3, 41)
