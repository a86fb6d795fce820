"""One data model in three formats: the same keys, the same rules, chosen by header or setting."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import pytest

from stream.codec import (
    CLOCK_KEY,
    decode_ad,
    decode_control,
    decode_event,
    decode_request_body,
    encode_ad,
    encode_delivery,
    encode_event,
    encode_impression,
    encode_request,
    encode_response,
    encode_tick,
)
from stream.errors import Reason, Rejected, RequestRejected
from stream.formats import FORMATS, JSON, MSGPACK, PROTOBUF, Format, format_of, header_of
from stream.protobuf import MESSAGES
from stream.records import (
    MAX_FEATURES,
    NEXT_VERSION,
    Ad,
    AdChange,
    ClockTick,
    Delivery,
    Impression,
    Rule,
    ScoredAd,
    ScoreRequest,
    ScoreResponse,
    ServedAd,
    UserEvent,
)
from stream.wire import headwater_pb2 as wire

NOW_MS = 1_500_000_000_000
AD = Ad(7, "69", "spring", {"type": {"a": 0.5, "b": 1.0}}, {"age": Rule(("35-44",))})

in_every_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
in_binary = pytest.mark.parametrize("form", [MSGPACK, PROTOBUF], ids=["msgpack", "protobuf"])


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (b"application/json", JSON),
        (b"application/json; charset=utf-8", JSON),
        (b"Application/MsgPack", MSGPACK),
        (b"application/x-msgpack", MSGPACK),
        (b"application/vnd.msgpack", MSGPACK),
        (b"application/x-protobuf", PROTOBUF),
        (b"application/protobuf;messageType=headwater.Ad", PROTOBUF),
    ],
)
def test_the_header_chooses_the_format(content_type: bytes, form: Format) -> None:
    headers = [("trace", b"1"), ("content-type", content_type)]
    assert format_of(headers, default=JSON) is form
    assert format_of(headers, default=PROTOBUF) is form


@in_every_format
def test_a_record_without_the_header_is_in_the_configured_format(record, form: Format) -> None:
    assert decode_ad(record(b"5", encode_ad(AD, form)), default=form) == AdChange(5, 7, AD)


@in_every_format
def test_the_formats_own_header_names_it(record, form: Format) -> None:
    for other in FORMATS.values():
        message = record(b"5", encode_ad(AD, form), [header_of(form)])
        assert decode_ad(message, default=other).ad == AD


@pytest.mark.parametrize("content_type", [b"", b"text/csv", b"\xff", None])
def test_an_unknown_content_type_is_rejected_with_its_own_reason(record, content_type) -> None:
    message = record(b"5", encode_ad(AD), [("content-type", content_type)])
    for decode in (decode_ad, decode_control, lambda message: decode_event(message, NOW_MS)):
        with pytest.raises(Rejected) as rejected:
            decode(message)
        assert rejected.value.reason is Reason.UNKNOWN_FORMAT


def test_a_null_value_has_no_format(record) -> None:
    headers = [("content-type", b"text/csv")]
    assert decode_ad(record(b"5", None, headers)) == AdChange(5, NEXT_VERSION, None)


def test_messagepack_is_json_in_other_bytes() -> None:
    """Whoever knows a record in one knows it in the other: no key, type or id differs."""
    event = UserEvent("e", 2**60 + 1, "buy", 5, 1.5, {"product": ("1",)})
    request = ScoreRequest(request_id="r", user_id=2**60 + 1, candidates=(2**60 + 1,))
    response = ScoreResponse(request_id="r", user_id=1, ads=(ScoredAd(2**60 + 1, 1.0, 2.0),))
    impression = Impression(request_id="r", user_id=1, time_ms=5, ads=(ServedAd(2, 0, 1.0, 2.0),))
    for encode, written in (
        (encode_ad, AD),
        (encode_delivery, Delivery(8, "paused", end_ms=5)),
        (encode_tick, ClockTick(5)),
        (encode_event, event),
        (encode_request, request),
        (encode_response, response),
        (encode_impression, impression),
    ):
        assert msgspec.msgpack.decode(encode(written, MSGPACK)) == msgspec.json.decode(
            encode(written, JSON)
        )


def test_protobuf_has_a_message_for_every_record_with_the_same_keys() -> None:
    for struct, message in MESSAGES.items():
        keys = {field.name for field in message.DESCRIPTOR.fields}
        assert keys == set(struct.__struct_fields__), struct


def test_the_protobuf_of_another_producer_is_read(record) -> None:
    """Built with the generated classes alone, as a producer in any language would."""
    ad = wire.Ad(version=7, advertiser="69")
    ad.features["product"].values.append("1029743")
    ad.features["type"].values.extend(["a", "b"])
    ad.features["type"].weights.extend([0.5, 0.0])
    ad.targeting["age"].allow.values.append("35-44")
    ad.targeting["store"].allow.SetInParent()
    change = decode_ad(record(b"5", ad.SerializeToString()), default=PROTOBUF)
    assert change.ad == Ad(
        7,
        "69",
        "",
        {"product": ("1029743",), "type": {"a": 0.5}},
        {"age": Rule(("35-44",)), "store": Rule(())},
    )


def test_protobuf_scalars_that_are_not_set_have_the_records_defaults(record) -> None:
    """They are not zero: an ad without a pacing would never be shown."""
    raw = wire.Delivery(version=8).SerializeToString()
    change = decode_control(record(b"5", raw), default=PROTOBUF)
    assert change.delivery == Delivery(8)
    raw = wire.Delivery(version=8, pacing=0.0, budget_left=0.0).SerializeToString()
    change = decode_control(record(b"5", raw), default=PROTOBUF)
    assert change.delivery == Delivery(8, budget_left=0.0, pacing=0.0)


def test_protobuf_without_a_required_field_is_an_invalid_field(record) -> None:
    with pytest.raises(Rejected, match="version") as rejected:
        decode_ad(record(b"5", b""), default=PROTOBUF)
    assert rejected.value.reason is Reason.INVALID_FIELD


def test_protobuf_weights_must_be_as_many_as_the_values(record) -> None:
    ad = wire.Ad(version=7)
    ad.features["type"].values.extend(["a", "b"])
    ad.features["type"].weights.append(0.5)
    with pytest.raises(Rejected, match="1 weights for 2 values"):
        decode_ad(record(b"5", ad.SerializeToString()), default=PROTOBUF)


@in_binary
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_rejected(record, form: Format, number: float) -> None:
    """Unlike JSON, these formats can write them."""
    deliveries = [{"budget_left": number}, {"pacing": number}, {"bid": number}]
    for delivery in deliveries:
        raw = form.write({"version": 1, **delivery}, Delivery)
        with pytest.raises(Rejected) as rejected:
            decode_control(record(b"5", raw), default=form)
        assert rejected.value.reason is Reason.INVALID_FIELD
    raw = encode_ad(Ad(1, features={"type": {"a": number}}), form)
    with pytest.raises(Rejected):
        decode_ad(record(b"5", raw), default=form)
    raw = encode_event(UserEvent("e", None, "buy", 5, number), form)
    with pytest.raises(Rejected):
        decode_event(record(b"5", raw), NOW_MS, default=form)


@in_every_format
def test_too_many_features_are_seen_in_every_format(record, form: Format) -> None:
    """A binary value is short, so the length from which values are counted must be safe."""
    for features in (
        {"": ("",) * (MAX_FEATURES + 1)},
        {"a": ("",) * (MAX_FEATURES + 1)},
        {"a": ("",) * MAX_FEATURES, "b": ("",)},
    ):
        raw = encode_event(UserEvent("e", None, "", 0, features=features), form)
        with pytest.raises(Rejected) as rejected:
            decode_event(record(b"5", raw), NOW_MS, default=form)
        assert rejected.value.reason in {Reason.TOO_MANY_FEATURES, Reason.INVALID_FIELD}
        if "" not in features:
            assert rejected.value.reason is Reason.TOO_MANY_FEATURES


def test_unknown_messagepack_keys_are_ignored_and_counted(record) -> None:
    unknown: Counter[str] = Counter()
    raw = msgspec.msgpack.encode({"version": 7, "colour": "red", 5: b"x", "note": {"a": [None]}})
    assert decode_ad(record(b"5", raw), unknown, MSGPACK) == AdChange(5, 7, Ad(7))
    assert unknown == {"ads": 3}


def test_unknown_protobuf_fields_are_ignored_and_counted(record) -> None:
    """A newer producer's fields, on top and inside a rule."""
    unknown: Counter[str] = Counter()
    newer = b"\xfa\x06\x01x"  # field 111, of length 1
    rule = b"\x0a\x03age\x12" + bytes([len(newer)]) + newer
    raw = encode_ad(Ad(7), PROTOBUF) + newer + b"\x2a" + bytes([len(rule)]) + rule
    change = decode_ad(record(b"5", raw), unknown, PROTOBUF)
    assert change == AdChange(5, 7, Ad(7, targeting={"age": Rule()}))
    assert unknown == {"ads": 2}


@in_binary
def test_json_under_another_content_type_is_rejected(record, form: Format) -> None:
    with pytest.raises(Rejected):
        decode_ad(record(b"5", encode_ad(AD), [header_of(form)]))


@in_every_format
def test_a_malformed_request_in_any_format_can_be_answered(form: Format) -> None:
    raw = form.write({"request_id": "r", "user_id": "7", "mode": "dense"}, ScoreRequest)
    with pytest.raises(RequestRejected) as rejected:
        decode_request_body(raw, form=form)
    assert (rejected.value.request_id, rejected.value.user_id) == ("r", 7)


@in_every_format
def test_the_clock_is_read_in_every_format(record, form: Format) -> None:
    message = record(CLOCK_KEY, encode_tick(ClockTick(NOW_MS), form), [header_of(form)])
    assert decode_control(message) == ClockTick(NOW_MS)
