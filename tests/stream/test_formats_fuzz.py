"""Whatever bytes arrive in whatever format, a decoder returns a record or raises `Rejected`."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.codec import (
    CLOCK_KEY,
    decode_ad,
    decode_control,
    decode_event,
    decode_impression,
    decode_request,
    decode_request_body,
    decode_response,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_impression,
    encode_request,
    encode_response,
)
from stream.errors import Rejected
from stream.formats import FORMATS, JSON, MSGPACK, PROTOBUF, header_of
from stream.records import (
    MAX_ID,
    MAX_TIME_MS,
    Ad,
    AdChange,
    ClockTick,
    ControlChange,
    Delivery,
    EventRecord,
    FrequencyCap,
    Impression,
    Rule,
    ScoredAd,
    ScoreRequest,
    ScoreResponse,
    ServedAd,
    UserEvent,
)

NOW_MS = 1_500_000_000_000

forms = st.sampled_from(list(FORMATS.values()))
texts = st.text(max_size=8)
fields = texts.filter(lambda name: name and "=" not in name)
ids = st.integers(0, MAX_ID)
versions = st.integers(0, MAX_ID - 1)
times = st.integers(0, MAX_TIME_MS)
listed = st.lists(texts, max_size=3).map(tuple)
profiles = st.dictionaries(fields, listed, max_size=3)
numbers = st.floats(allow_nan=False, allow_infinity=False)
weights = st.floats(0.0, 1.0, exclude_min=True, allow_subnormal=False)
features = st.dictionaries(fields, st.dictionaries(texts, weights, max_size=3), max_size=3)
rules = st.dictionaries(
    fields, st.builds(Rule, allow=st.none() | listed, deny=st.none() | listed), max_size=2
)
offsets = st.dictionaries(
    texts, st.dictionaries(st.integers(0, 2**31 - 1), ids, max_size=2), max_size=2
)
names = st.dictionaries(texts, texts, max_size=2)
served = st.builds(
    ServedAd, ad_id=ids, rank=st.integers(0, 9), score=numbers, value=numbers, features=features
)
scored = st.builds(
    ScoredAd,
    ad_id=ids,
    score=numbers,
    value=numbers,
    tasks=st.dictionaries(texts, numbers, max_size=2),
)

ads = st.builds(
    Ad, version=versions, advertiser=texts, campaign=texts, features=features, targeting=rules
)
deliveries = st.builds(
    Delivery,
    version=versions,
    status=st.sampled_from(["active", "paused"]),
    budget_left=st.none() | numbers,
    pacing=st.floats(0.0, 1.0),
    bid=st.floats(0.0, 1e12),
    start_ms=st.none() | times,
    end_ms=st.none() | times,
)
events = st.builds(
    UserEvent,
    event_id=texts.filter(bool),
    ad_id=st.none() | ids,
    action=texts,
    time_ms=st.integers(0, NOW_MS),
    value=st.floats(-1e12, 1e12),
    features=profiles,
)
requests = st.builds(
    ScoreRequest,
    request_id=texts.filter(bool),
    user_id=ids,
    user=profiles,
    k=st.integers(1, 10**6),
    candidates=st.none() | st.integers(1, 10**6) | st.lists(ids, max_size=3).map(tuple),
    filters=rules,
    context=profiles,
    deadline_ms=st.none() | times,
    seed=st.none() | ids,
    now_ms=st.none() | times,
    min_offsets=offsets,
    max_staleness_ms=st.none() | times,
    mode=st.sampled_from(["full", "sparse"]),
    rank=st.booleans(),
    max_per_advertiser=st.none() | st.integers(1, 10**6),
    frequency_cap=st.none()
    | st.builds(
        FrequencyCap,
        most=st.integers(1, 10**6),
        window_ms=st.none() | st.integers(1, MAX_TIME_MS),
        actions=st.none() | listed,
        seen=st.none() | st.dictionaries(ids, st.integers(0, 10**6), max_size=2),
    ),
)
responses = st.builds(
    ScoreResponse,
    request_id=texts,
    user_id=ids,
    ads=st.lists(scored, max_size=2).map(tuple),
    models=names,
    epoch=ids,
    offsets=offsets,
    flags=listed,
)
impressions = st.builds(
    Impression,
    request_id=texts,
    user_id=ids,
    user=profiles,
    time_ms=times,
    ads=st.lists(served, max_size=2).map(tuple),
    models=names,
    arm=texts,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid record with a few bytes changed, put in or taken out."""
    record, encode = draw(
        st.one_of(
            st.tuples(ads, st.just(encode_ad)),
            st.tuples(deliveries, st.just(encode_delivery)),
            st.tuples(events, st.just(encode_event)),
            st.tuples(requests, st.just(encode_request)),
            st.tuples(responses, st.just(encode_response)),
            st.tuples(impressions, st.just(encode_impression)),
        )
    )
    raw = bytearray(encode(record, draw(forms)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw)


# What only MessagePack can say: bytes, keys that are no strings, extension types.
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts
    | st.binary(max_size=4) | st.datetimes(timezones=st.timezones())
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=13)),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["version", "features", "targeting", "user_id", "ads", "allow"])
        | texts | st.integers(-9, 9) | st.none() | st.binary(max_size=2),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
packed = plain.map(msgspec.msgpack.encode)
values = st.binary(max_size=64) | damaged() | packed


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([b"1", b"0", CLOCK_KEY]), values, forms)
def test_any_bytes_in_any_format_become_a_record_or_a_rejection(record, key, value, form):
    message = record(key, value, [header_of(form)])
    for decode, kinds in (
        (lambda: decode_ad(message), AdChange),
        (lambda: decode_control(message), (ControlChange, ClockTick)),
        (lambda: decode_event(message, NOW_MS), EventRecord),
        (lambda: decode_request(key, value, form=form), ScoreRequest),
        (lambda: decode_request_body(value, form=form), ScoreRequest),
        (lambda: decode_response(value, form), ScoreResponse),
        (lambda: decode_impression(value, form), Impression),
    ):
        try:
            result = decode()
        except Rejected:
            continue
        assert isinstance(result, kinds)


KEYS = [
    *("version", "advertiser", "campaign", "features", "targeting", "allow", "deny"),
    *("status", "budget_left", "pacing", "bid", "start_ms", "end_ms", "time_ms"),
    *("event_id", "ad_id", "action", "value", "request_id", "user_id", "user", "k", "candidates"),
    *("filters", "context", "deadline_ms", "seed", "now_ms", "min_offsets", "mode", "rank"),
]
bodies = st.dictionaries(
    st.sampled_from(KEYS) | texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | numbers
        | texts
        | st.sampled_from(["1", "01", "active", "full", "e"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["allow", "deny", "0"]) | texts, inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=8,
)


@settings(max_examples=400, deadline=None)
@given(bodies | bodies.map(lambda body: {"version": 1, "request_id": "r", "user_id": "1"} | body))
def test_what_is_valid_in_json_is_valid_in_messagepack_and_nothing_else(record, body):
    """The rules are the record's, not the format's."""

    def outcomes(form):
        raw = form.write(body, Ad)
        message = record(b"1", raw, [header_of(form)])
        for decode in (
            lambda: decode_ad(message),
            lambda: decode_control(message),
            lambda: decode_event(message, NOW_MS),
            lambda: decode_request_body(raw, form=form),
        ):
            try:
                yield decode()
            except Rejected as rejected:
                yield rejected.reason

    assert list(outcomes(JSON)) == list(outcomes(MSGPACK))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200_000), st.sampled_from([b"\x81", b"\x91", b"\x0a", b"\x0b", b"\xdd"]))
def test_deep_nesting_neither_crashes_nor_hangs(record, depth, opening):
    for form in (MSGPACK, PROTOBUF):
        try:
            decode_ad(record(b"1", opening * depth, [header_of(form)]))
        except Rejected:
            continue


def with_weights(ad):
    """The ad with every weight written: those of 1 may be left out, which says the same."""
    features = {
        field: values if isinstance(values, dict) else dict.fromkeys(values, 1.0)
        for field, values in ad.features.items()
    }
    return msgspec.structs.replace(ad, features=features)


@settings(max_examples=150, deadline=None)
@given(forms, ads, deliveries, events)
def test_every_record_that_is_read_survives_every_format(record, form, ad, delivery, event):
    def message(value):
        return record(b"1", value, [header_of(form)])

    read = decode_ad(message(encode_ad(ad, form))).ad
    assert with_weights(read) == with_weights(ad)
    assert decode_control(message(encode_delivery(delivery, form))).delivery == delivery
    assert decode_event(message(encode_event(event, form)), NOW_MS).event == event


@settings(max_examples=150, deadline=None)
@given(forms, requests, responses, impressions)
def test_every_request_answer_and_impression_survives_every_format(
    form, request_, response, impression
):
    assert decode_request_body(encode_request(request_, form), form=form) == request_
    assert decode_response(encode_response(response, form), form) == response
    assert decode_impression(encode_impression(impression, form), form) == impression
